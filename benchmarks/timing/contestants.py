"""Who is timed: the floor, stock skorch, every weighting of ours, and the peers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.timing import hu_peers
from benchmarks.timing.loops import StepFunction, Timing, plain_step, time_loop
from benchmarks.timing.problems import LEARNING_RATE, Data
from skreweight import ReweightedClassifier
from skreweight.weighting import WEIGHTINGS

FLOOR = "floor"


@dataclass(frozen=True)
class Contestant:
    """One line of the table.

    Attributes
    ----------
    name, label : str
        What the command line calls it, and what the table calls it.
    group : {"floor", "stock", "ours", "peer"}
    run : callable
        Data -> Timing: trains a fresh network and times an epoch of it.
    needs : tuple of str
        Packages without which it cannot run.
    """

    name: str
    label: str
    group: str
    run: Callable[[Data], Timing]
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Return the packages it lacks here."""
        return [package for package in self.needs if importlib.util.find_spec(package) is None]


class _EpochStopwatch(Callback):
    """Seconds of each epoch, the work of the callbacks before it included."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.epochs: list[float] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self._begin = self.clock()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.epochs.append(self.clock() - self._begin)


def _time_fit(net: Any, data: Data) -> Timing:
    """Two epochs of a fit: the second one's own time, and the fit's time besides its epochs."""
    x, y = data.x.cpu().numpy(), data.y.cpu().numpy()
    stopwatch = _EpochStopwatch(data.clock)
    net.set_params(callbacks=[("stopwatch", stopwatch)])
    begin = data.clock()
    net.fit(x, y)
    total = data.clock() - begin
    return Timing(stopwatch.epochs[-1], total - sum(stopwatch.epochs))


def _common(data: Data) -> dict[str, Any]:
    return {
        "module": data.problem.make,
        **{f"module__{name}": value for name, value in data.problem.arguments.items()},
        "criterion": nn.CrossEntropyLoss,
        "optimizer": Adam,
        "lr": LEARNING_RATE,
        "batch_size": data.problem.batch_size,
        "max_epochs": 2,
        "verbose": 0,
        "device": str(data.device),
    }


def _stock_skorch(data: Data, **options: Any) -> Timing:
    net = NeuralNetClassifier(**_common(data), train_split=None, iterator_train__shuffle=True, **options)
    return _time_fit(net, data)


def classifier_of_ours(data: Data, *, weighting: str, **options: Any) -> ReweightedClassifier:
    """Return the estimator for a problem, without stage 1."""
    if WEIGHTINGS[weighting].needs_validation:
        options.setdefault("validation_data", (data.x_val, data.y_val))
    return ReweightedClassifier(
        **_common(data), weighting=weighting, warmup_epochs=0, random_state=0, **options
    )


def fit_of_ours(data: Data, *, weighting: str, **options: Any) -> Timing:
    """Time an epoch of stage 2 of a fit without stage 1."""
    return _time_fit(classifier_of_ours(data, weighting=weighting, **options), data)


def _absgd_step(data: Data, module: nn.Module, optimizer: Optimizer) -> StepFunction:
    from absgd.losses.ABLosses import ABLoss

    criterion = ABLoss(1.0)
    criterion.updateLambda()

    def step(x: Tensor, targets: Tensor, rows: Tensor) -> None:
        loss = criterion(module(x), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _absgd_as_documented(data: Data) -> Timing:
    """Their loss and their optimiser on a DataLoader, as their README has it."""
    from absgd.losses.ABLosses import ABLoss
    from absgd.optimizers.ABoptimizers import ABAdam

    module = data.module()
    criterion = ABLoss(1.0)
    criterion.updateLambda()
    optimizer = ABAdam(module.parameters(), lr=LEARNING_RATE)
    rows = TensorDataset(data.x.cpu(), data.y.cpu())
    loader = DataLoader(rows, batch_size=data.problem.batch_size, shuffle=True)
    seconds = 0.0
    for _ in range(2):  # the first one warms up
        begin = data.clock()
        for x, targets in loader:
            loss = criterion(module(x.to(data.device)), targets.to(data.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if data.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = data.clock() - begin
    return Timing(seconds)


def _slow(make_step: Any, n_rows: int) -> Callable[[Data], Timing]:
    def run(data: Data) -> Timing:
        return time_loop(data, make_step, n_batches=max(1, n_rows // data.problem.batch_size))

    return run


def contestants() -> dict[str, Contestant]:
    """Return all contestants by name, in the order of the table."""
    ours = [
        Contestant(name, f'weighting="{name}"', "ours", partial(fit_of_ours, weighting=name))
        for name in WEIGHTINGS
        if name != "two-phase"  # whose epochs are of the validation rows
    ]
    found = [
        Contestant(FLOOR, "hand-written loop", "floor", partial(time_loop, make_step=plain_step)),
        Contestant("skorch", "stock skorch", "stock", _stock_skorch),
        Contestant(
            "skorch-fused",
            "stock skorch, fused Adam",
            "stock",
            partial(_stock_skorch, optimizer__fused=True),
        ),
        *ours,
        Contestant(
            "ours-2",
            'weighting="ours", 2 constraint steps',
            "ours",
            partial(fit_of_ours, weighting="ours", weighting__n_constraint_steps=2),
        ),
        Contestant(
            "ours-identity",
            'weighting="ours", curvature="identity"',
            "ours",
            partial(fit_of_ours, weighting="ours", weighting__curvature="identity"),
        ),
        Contestant(
            "peer-absgd",
            "absgd (PyPI): its loss in the hand-written loop",
            "peer",
            partial(time_loop, make_step=_absgd_step),
            ("absgd",),
        ),
        Contestant(
            "peer-absgd-loader",
            "absgd (PyPI): its loss and Adam on a DataLoader",
            "peer",
            _absgd_as_documented,
            ("absgd",),
        ),
        Contestant(
            "hu-func",
            "Hu by double backward, torch.func",
            "peer",
            partial(time_loop, make_step=hu_peers.double_backward_func),
        ),
        Contestant(
            "hu-autograd",
            "Hu by double backward, torch.autograd",
            "peer",
            partial(time_loop, make_step=hu_peers.double_backward_autograd),
        ),
        Contestant(
            "hu-vmap",
            "Hu by per-example gradients, torch.func.vmap",
            "peer",
            _slow(hu_peers.vmap_gradients, 2048),
        ),
        Contestant(
            "hu-backpack",
            "Hu by per-example gradients, BackPACK",
            "peer",
            _slow(hu_peers.backpack_gradients, 2048),
            ("backpack", "einops", "unfoldNd"),
        ),
        Contestant(
            "hu-loop",
            "Hu by one Adam step per example, as its authors do",
            "peer",
            _slow(hu_peers.per_example_loop, 256),
        ),
    ]
    return {contestant.name: contestant for contestant in found}

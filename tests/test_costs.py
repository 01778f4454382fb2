"""What a training step costs, in passes through the network, host reads and memory: counts, no wall times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from skreweight import ReweightedClassifier
from skreweight._training.loop import Loop
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS

N_FEATURES, HIDDEN = 5, 8
N_STEPS, N_VALIDATION = 3, 6


class CountedMLP(MLP):
    """Notes every pass: which rows (by their number), in which mode, forward, backward or forward-mode."""

    passes: ClassVar[Counter[str]] = Counter()

    def forward(self, X: Tensor) -> Tensor:
        rows = "validation" if len(X) == N_VALIDATION else "batch"
        where = f"{rows} in {'training' if self.training else 'evaluation'}"
        first = next(self.parameters())
        kind = "forward" if forward_ad.unpack_dual(first).tangent is None else "forward-mode"
        self.passes[f"{kind}, {where}"] += 1
        outputs = super().forward(X)
        if outputs.requires_grad:
            outputs.register_hook(lambda gradient: self.passes.update([f"backward, {where}"]))
        return outputs


class BehindTheRules(CountedMLP):
    """A parameter outside every layer: products of gradients come from autograd and forward mode."""

    def __init__(self, n_features: int, n_classes: int, hidden: tuple[int, ...]) -> None:
        super().__init__(n_features, n_classes, hidden)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, X: Tensor) -> Tensor:
        return super().forward(X) * self.scale


class LastEpoch(Callback):
    """Calls back when the last epoch begins: what the first batches cost once is behind it."""

    def __init__(self, n_epochs: int, then: Callable[[], Any]) -> None:
        self.n_epochs, self.then = n_epochs, then

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) == self.n_epochs:
            self.then()


def fit(
    weighting: str,
    *,
    batch_size: int = 10,
    n_classes: int = 2,
    on_last_epoch: Callable[[], Any],
    **options: Any,
) -> ReweightedClassifier:
    """Train one epoch of stage 1 and two of stage 2, N_STEPS steps each."""
    generator = np.random.default_rng(0)
    n_rows = N_STEPS * batch_size
    X = generator.normal(size=(n_rows, N_FEATURES)).astype(np.float32)
    X_val = generator.normal(size=(N_VALIDATION, N_FEATURES)).astype(np.float32)
    y, y_val = np.arange(n_rows) % n_classes, np.arange(N_VALIDATION) % n_classes
    return ReweightedClassifier(
        **{"module": CountedMLP, "module__hidden": (HIDDEN,), **options},
        weighting=weighting,
        validation_data=(X_val, y_val),
        warmup_epochs=1,
        max_epochs=2,
        batch_size=batch_size,
        random_state=0,
        callbacks=[LastEpoch(3, on_last_epoch)],
    ).fit(X, y)


def passes_per_step(weighting: str, **options: Any) -> dict[str, float]:
    """Passes of each kind of one step, in the last epoch; the look at the validation rows after it aside."""
    CountedMLP.passes.clear()
    fit(weighting, on_last_epoch=CountedMLP.passes.clear, **options)
    CountedMLP.passes["forward, validation in evaluation"] -= 1
    return {what: n / N_STEPS for what, n in CountedMLP.passes.items() if n}


PLAIN_STEP = {"forward, batch in training": 1, "backward, batch in training": 1}
HU_STEP = {
    **PLAIN_STEP,
    "forward, validation in evaluation": 1,
    "backward, validation in evaluation": 1,
}


def step_of_ours(n_constraint_steps: int, n_curvature_passes: int = 0) -> dict[str, float]:
    """Each constraint step sees batch and validation rows in one pass, and the latter once more without one back."""
    return {
        **HU_STEP,
        "forward, batch in evaluation": n_constraint_steps,
        "backward, batch in evaluation": n_constraint_steps * (1 + n_curvature_passes),
        "forward, validation in evaluation": 1 + n_constraint_steps,
    }


@pytest.mark.parametrize("batch_size", [10, 40])
@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("none", PLAIN_STEP),
        ("proportion", PLAIN_STEP),
        ("absgd", PLAIN_STEP),
        ("term", PLAIN_STEP),
        ("top-loss", PLAIN_STEP),
        ("eg", PLAIN_STEP),
        ("ren", HU_STEP),
        ("meta", HU_STEP),
        ("meta-weight-net", HU_STEP),
        ("hu", HU_STEP),
        ("ours", step_of_ours(1)),
    ],
)
def test_a_step_costs_as_many_passes_whatever_the_batch_size(
    weighting: str, expected: dict[str, float], batch_size: int
) -> None:
    assert passes_per_step(weighting, batch_size=batch_size) == expected


def test_two_phase_passes_over_the_validation_rows_alone() -> None:
    # One batch of validation rows is an epoch.
    per_epoch = {what: N_STEPS * n for what, n in passes_per_step("two-phase").items()}
    expected = {"forward, validation in training": 1, "backward, validation in training": 1}
    assert per_epoch == pytest.approx(expected)


@pytest.mark.parametrize("n_constraint_steps", [0, 2])
def test_each_constraint_step_costs_the_same_again(n_constraint_steps: int) -> None:
    passes = passes_per_step("ours", weighting__n_constraint_steps=n_constraint_steps)
    expected = step_of_ours(n_constraint_steps)
    assert passes == {what: n for what, n in expected.items() if n}


@pytest.mark.parametrize(
    ("curvature", "n_classes", "n_curvature_passes"),
    # For two logits the loss depends on their difference: one signal serves gradients and curvature.
    [
        ("ggn", 2, 0),
        ("fisher", 2, 0),
        ("identity", 2, 0),
        ("ggn", 3, 1),
        ("ggn-mc", 3, 1),
        ("identity", 3, 0),
    ],
)
def test_a_curvature_costs_at_most_one_backward_pass_for_all_classes(
    curvature: str, n_classes: int, n_curvature_passes: int
) -> None:
    passes = passes_per_step("ours", n_classes=n_classes, weighting__curvature=curvature)
    assert passes == step_of_ours(1, n_curvature_passes)


def test_hu_on_any_module_costs_one_forward_mode_pass_and_two_backward_passes() -> None:
    passes = passes_per_step("hu", module=BehindTheRules)
    assert passes == {
        **HU_STEP,
        "forward-mode, batch in training": 1,
        # F w for the virtual step, F ŵ for the real one.
        "backward, batch in training": 2,
    }


class _Watch(TorchDispatchMode):
    """Sees every operation between `begin` and `end`."""

    #: Operations whose result is a figure on the host, or a shape that depends on one.
    READS: ClassVar[set[str]] = {"_local_scalar_dense", "equal", "nonzero", "is_nonzero", "_unique2"}

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.largest = 0
        self.on = False
        self.times = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in self.READS:
            self.reads.append(name)
        results = result if isinstance(result, tuple | list) else [result]
        self.largest = max([self.largest, *(r.numel() for r in results if isinstance(r, Tensor))])
        return result

    def begin(self) -> None:
        self.on = True
        self.times += 1
        self.__enter__()

    def end(self) -> None:
        if self.on:
            self.on = False
            self.__exit__(None, None, None)


@contextmanager
def watched_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Watch]:
    """Watch from `begin` until an epoch's steps are taken; ways to the host past the dispatcher count as well."""
    watch = _Watch()
    finish = Loop._finish_epoch

    def finish_unwatched(self: Loop, *args: Any) -> None:
        watch.end()
        finish(self, *args)

    def noting(name: str) -> Callable[..., Any]:
        original = getattr(Tensor, name)

        def read(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if watch.on:
                watch.reads.append(name)
            return original(self, *args, **kwargs)

        return read

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_finish_epoch", finish_unwatched)
        for name in ("item", "cpu", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__"):
            patch.setattr(Tensor, name, noting(name))
        try:
            yield watch
        finally:
            watch.end()


@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
def test_no_figure_comes_to_the_host_in_the_steps_of_an_epoch(
    weighting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched_steps(monkeypatch) as watch:
        fit(weighting, on_last_epoch=watch.begin)
    assert watch.times == 1
    assert watch.reads == []


def test_the_watch_sees_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader(Callback):
        def on_batch_end(self, net: Any, loss: Any = None, training: bool = False, **kwargs: Any) -> None:
            if training:
                float(loss)

    with watched_steps(monkeypatch) as watch:
        clf = fit("none", on_last_epoch=watch.begin)
        watch.reads.clear()
        clf.set_params(callbacks=[Reader(), LastEpoch(3, watch.begin)])
        clf.fit(np.random.default_rng(0).normal(size=(30, N_FEATURES)), np.arange(30) % 2)
    assert len(watch.reads) >= N_STEPS


@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
def test_nothing_is_formed_for_each_row_and_each_parameter(
    weighting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_size = 64
    # Its own hidden layer is as wide as the network's here, which leaves the bound below as it is.
    options = {"weighting__n_hidden": HIDDEN} if weighting == "meta-weight-net" else {}
    with watched_steps(monkeypatch) as watch:
        fit(weighting, batch_size=batch_size, on_last_epoch=watch.begin, **options)
    # Even the smaller weight matrix would make B × (8 × 2) figures; the largest activations are those of the batch
    # and the validation rows together, (B + M) × 8.
    assert 0 < watch.largest <= (batch_size + N_VALIDATION) * HIDDEN


@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
def test_a_weighting_keeps_at_most_one_figure_for_each_row(weighting: str) -> None:
    figures = {}
    for batch_size in (20, 40):
        clf = fit(weighting, batch_size=batch_size, on_last_epoch=lambda: None)
        figures[batch_size] = sum(t.numel() for t in clf.weighting_.state_dict().values())
    assert figures[40] - figures[20] <= N_STEPS * 20

"""Floating-point operations and tensor operations of one training step: what no machine's load can change.

Floating-point operations are those of matrix products and convolutions, a multiplication and an addition each.
The number of tensor operations tells small networks apart: there an operation's fixed cost rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from skorch.callbacks import Callback
from torch import nn
from torch.optim import Adam, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import hu_peers
from benchmarks.timing.contestants import classifier_of_ours
from benchmarks.timing.loops import StepFunction, plain_step
from benchmarks.timing.problems import LEARNING_RATE, Data, problems

#: The convolutional problem is left out: torch counts the grouped convolutions of vmap as dense ones.
PROBLEMS = ("mlp", "mlp-1024", "mlp-10")
LOOPS: dict[str, Callable[[Data, nn.Module, Optimizer], StepFunction]] = {
    "hand-written loop": plain_step,
    "Hu by double backward, torch.autograd": hu_peers.double_backward_autograd,
}
OURS: dict[str, dict[str, Any]] = {
    'weighting="none"': {"weighting": "none"},
    'weighting="proportion"': {"weighting": "proportion"},
    'weighting="absgd"': {"weighting": "absgd"},
    'weighting="ren"': {"weighting": "ren"},
    'weighting="hu"': {"weighting": "hu"},
    'weighting="ours"': {"weighting": "ours"},
    'weighting="ours", 2 constraint steps': {"weighting": "ours", "weighting__n_constraint_steps": 2},
    'weighting="ours", curvature="identity"': {"weighting": "ours", "weighting__curvature": "identity"},
}


@dataclass(frozen=True)
class Operations:
    """Of one step: millions of floating-point operations, and tensor operations."""

    label: str
    megaflops: float
    n_operations: float


def count_operations(problem: str) -> list[Operations]:
    """Count what a step of every method takes on a problem of that name."""
    of_loops = [_of_loop(problem, label, make) for label, make in LOOPS.items()]
    return [of_loops[0], *(_of_ours(problem, label, o) for label, o in OURS.items()), *of_loops[1:]]


def _data(problem: str, n_steps: int) -> Data:
    batch_size = problems()[problem].batch_size
    return Data(problems(n_rows=n_steps * batch_size)[problem], torch.device("cpu"), lambda: 0.0)


def _of_loop(
    problem: str, label: str, make_step: Callable[[Data, nn.Module, Optimizer], StepFunction]
) -> Operations:
    data = _data(problem, 1)
    module = data.module()
    step = make_step(data, module, Adam(module.parameters(), lr=LEARNING_RATE, fused=True))
    rows = torch.arange(len(data.x))
    counter = _Counter()
    for counted in (False, True):  # the first step makes the optimiser's averages
        counter.on = counted
        with counter:
            step(data.x.index_select(0, rows), data.y.index_select(0, rows), rows)
    return Operations(label, counter.flops / 1e6, counter.n_operations)


def _of_ours(problem: str, label: str, options: dict[str, Any]) -> Operations:
    """What four steps more in an epoch take, so that the epoch's end does not count."""
    counts = []
    for n_steps in (2, 6):
        data, counter = _data(problem, n_steps), _Counter()
        clf = classifier_of_ours(data, **options)
        clf.set_params(callbacks=[("last_epoch", _LastEpoch(counter, clf.max_epochs))])
        with counter:
            clf.fit(data.x.numpy(), data.y.numpy())
        counts.append(counter)
    few, many = counts
    return Operations(label, (many.flops - few.flops) / 4e6, (many.n_operations - few.n_operations) / 4)


class _Counter(TorchDispatchMode):
    """Counts operations while ``on``."""

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.flops = 0
        self.n_operations = 0
        self._formulas = FlopCounterMode(display=False).flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.on:
            self.n_operations += 1
            if formula := self._formulas.get(func.overloadpacket):
                self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


class _LastEpoch(Callback):
    """Counts in the last epoch only: what the first batches cost once is behind it."""

    def __init__(self, counter: _Counter, n_epochs: int) -> None:
        self.counter, self.n_epochs = counter, n_epochs

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.counter.on = len(net.history) == self.n_epochs

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.counter.on = False

"""Training loops over whole tensors: the floor, and the peers that have no estimator of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from benchmarks.timing.problems import LEARNING_RATE, Data

#: One training step: (x, targets, row indices) -> None.
StepFunction = Callable[[Tensor, Tensor, Tensor], None]


@dataclass(frozen=True)
class Timing:
    """Time of one epoch.

    Attributes
    ----------
    epoch : float
        Seconds of an epoch.
    fixed : float or None
        Seconds of a fit besides its epochs; None where there is no fit.
    rows : int or None
        How many rows the seconds were scaled up from; None: all were timed.
    """

    epoch: float
    fixed: float | None = None
    rows: int | None = None


def time_loop(
    data: Data,
    make_step: Callable[[Data, nn.Module, Optimizer], StepFunction],
    *,
    n_batches: int | None = None,
) -> Timing:
    """Train a fresh network for a warm-up epoch and a timed one.

    Parameters
    ----------
    data : Data
    make_step : callable
        Called with the data, the network and its fused Adam; returns the training step.
    n_batches : int or None, default=None
        How many batches stand for an epoch (for what is very slow): their time is scaled up. None: all.
    """
    problem = data.problem
    module = data.module()
    step = make_step(data, module, Adam(module.parameters(), lr=LEARNING_RATE, fused=True))
    taken = problem.n_batches if n_batches is None else min(n_batches, problem.n_batches)
    _run_batches(data, step, taken if n_batches is None else 1)
    seconds = _run_batches(data, step, taken)
    rows = min(taken * problem.batch_size, problem.n_rows)
    return Timing(seconds * problem.n_rows / rows, rows=rows if rows < problem.n_rows else None)


def _run_batches(data: Data, step: StepFunction, n_batches: int) -> float:
    begin = data.clock()
    order = torch.randperm(data.problem.n_rows, device=data.device)
    for rows in order.split(data.problem.batch_size)[:n_batches]:
        step(data.x.index_select(0, rows), data.y.index_select(0, rows), rows)
    if data.device.type == "cuda":
        torch.cuda.synchronize()
    return data.clock() - begin


def plain_step(data: Data, module: nn.Module, optimizer: Optimizer) -> StepFunction:
    """Cross-entropy, backward, step: what an epoch costs at the very least."""
    criterion = nn.CrossEntropyLoss()

    def step(x: Tensor, targets: Tensor, rows: Tensor) -> None:
        loss = criterion(module(x), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step

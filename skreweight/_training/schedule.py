"""Learning rates that follow how much of a stage is done."""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer


class Schedule:
    """Multiplies the learning rates of an optimiser, which may differ by group, with one factor before each step.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its rates as they are now are what the factor multiplies.
    factor : callable (float) -> float
        Of the share of the stage that is done, in (0, 1): for step t of T, counted from 0, that is (t + ½)/T.
    """

    def __init__(self, optimizer: Optimizer, factor: Callable[[float], float]) -> None:
        self._optimizer, self._factor = optimizer, factor
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def __call__(self, share: float) -> None:
        """Set the rates for the step at a share of the stage."""
        factor = self._factor(share)
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

"""Every row weighs the same."""

from __future__ import annotations

from torch import Tensor

from skreweight.weighting._base import Weighting
from skreweight.weighting._parameters import hyperparameters
from skreweight.weighting._step import Step


@hyperparameters
class NoWeighting(Weighting):
    """The plain mean loss, the baseline of every comparison.

    The step minimises Σ_i w_i f_i with w_i = 1/B, which sum to 1.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("none")
    NoWeighting()
    """

    changes_weights = False
    works_on_shares = True

    def weigh(self, step: Step) -> Tensor:
        """Return 1/B for every row."""
        return step.uniform()

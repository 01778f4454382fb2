"""Two-phase learning (Wahab et al. 2017; Liu et al. 2022, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from skreweight.weighting._base import Weighting
from skreweight.weighting._parameters import hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
class TwoPhase(Weighting):
    """Train on the training rows in stage 1 and on the balanced validation rows alone in stage 2.

    Stage 2 minimises Σ_m f_m/B + lp_coef · ``Σ_k |θ_k|^lp_norm`` over mini-batches of the validation rows: an epoch
    is one pass over them. Every training row weighs 0 there, every validation row the same.

    Parameters
    ----------
    lp_norm : float, default=2
        Exponent p of the penalty ``Σ_k |θ_k|^p``; the paper tunes it in {2, 4, 6, 8}.
    lp_coef : float, default=0.0
        Coefficient of the penalty.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("two-phase", lp_coef=1e-3).lp_coef
    0.001
    """

    needs_validation = True
    works_on_shares = True

    lp_norm: float = number(2, at_least=1)
    lp_coef: float = number(0.0, at_least=0)

    def plan(self, stages: Sequence[Any]) -> list[Any]:
        """Return the stages, with mini-batches of validation rows in this method's own."""
        return [replace(s, rows="validation") if s.weighting is self else s for s in stages]

    def weights_of_untouched_rows(self) -> float:
        """Return 0: no training row plays a part."""
        return 0.0

    def weigh(self, step: Step) -> Tensor:
        """Return 1/B for every validation row of the batch."""
        return step.uniform()

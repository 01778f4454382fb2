"""Learning to reweight (Ren et al. 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor

from skreweight.weighting._base import Step, Weighting
from skreweight.weighting._normalization import normalized
from skreweight.weighting._penalty import PENALTY_CONSTRAINTS
from skreweight.weighting._virtual_step import VIRTUAL_STEPS, virtual_step


class Ren(Weighting):
    """Weights from scratch in each batch, by the sign and size of their effect on the validation loss.

    With the virtual step θ̂(w) = θ + Σ_i w_i δ_i taken at w = 0,

        w_i = max(−∂L_val(θ̂)/∂w_i, 0) = max(−δ_iᵀ∇L_val(θ), 0),

    divided by their sum. The step minimises Σ_i w_i f_i; the w_i sum to 1, or are all 0 where no row helps.

    Parameters
    ----------
    virtual_step : {"sgd", "optimizer"}, default="sgd"
        δ_i = −lr·∇f_i, or row i's whole step of the running optimiser (SGD, Adam or AdamW).
    lp_norm, lp_coef : float, default=2 and 0.0
        The penalty lp_coef · ``Σ_k |θ_k|^lp_norm`` is part of L_val.

    References
    ----------
    Ren, Zeng, Yang, Urtasun (2018). Learning to reweight examples for robust deep learning. ICML.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("ren")
    Ren()
    """

    needs_validation = True
    needs_gradients = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "virtual_step": [StrOptions(set(VIRTUAL_STEPS))],
        **PENALTY_CONSTRAINTS,
    }

    def __init__(self, *, virtual_step: str = "sgd", lp_norm: float = 2, lp_coef: float = 0.0) -> None:
        self.virtual_step = virtual_step
        self.lp_norm = lp_norm
        self.lp_coef = lp_coef

    def weigh(self, step: Step) -> Tensor:
        """Return the normalised positive part of −∂L_val/∂w at w = 0."""
        assert step.gradients is not None and step.validation is not None
        rows_steps = virtual_step(self.virtual_step, step)
        _, gradient = step.validation.value_and_gradient(step.gradients.model.parameters)
        raw = -rows_steps.pull_back(gradient)
        raw = torch.where(raw.isfinite(), raw, 0.0)
        # Only proportions matter, and with a small learning rate the sum itself may lie below the floor.
        return normalized(
            raw / raw.amax().clamp(min=torch.finfo(raw.dtype).tiny), "linear", 1.0, step.multiplicity
        )

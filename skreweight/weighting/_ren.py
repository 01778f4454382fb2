"""Learning to reweight (Ren et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from skreweight.weighting._base import Weighting
from skreweight.weighting._hu import sum_to_one
from skreweight.weighting._parameters import choice, hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
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

    needs_validation = needs_products = True
    works_on_shares = True

    virtual_step: str = choice("sgd", "optimizer", "optimizer-early-epsilon")
    lp_norm: float = number(2, at_least=1)
    lp_coef: float = number(0.0, at_least=0)

    def weigh(self, step: Step) -> Tensor:
        """Return the normalised positive part of −∂L_val/∂w at w = 0."""
        assert step.products is not None and step.validation is not None
        virtual = step.virtual(self.virtual_step)
        _, slope = step.validation.value_and_gradient(step.products.model.parameters)
        w = -virtual.pull_back(slope)  # −∂L_val(θ̂)/∂w at w = 0
        w = torch.where(w.isfinite(), w, 0.0).clamp(min=0)
        # Only proportions matter, and with a small learning rate the sum itself may lie below the floor.
        return sum_to_one(w / step.max(w).clamp(min=torch.finfo(w.dtype).tiny), step)

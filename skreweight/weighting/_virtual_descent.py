"""What a validation loss says of the weights of a virtual step of plain gradient descent."""

from __future__ import annotations

from torch import Tensor

from skreweight.core.virtual_step import AffineStep, weight_gradient
from skreweight.weighting._step import Step


def descent_slope(step: Step, weights: Tensor, lr: Tensor | float | None) -> Tensor:
    """Return ∂L_val(θ̂)/∂w at θ̂ = θ − lr · Σ_i w_i ∇f_i, shape (*M, B).

    Parameters
    ----------
    step : Step
    weights : torch.Tensor of shape (*M, B)
    lr : float, torch.Tensor of shape (K, 1) or None
        None: the optimiser's present learning rates.
    """
    assert step.products is not None and step.validation is not None
    if lr is None:
        return weight_gradient(step.virtual("sgd"), weights, step.validation)
    unit = AffineStep(step.products, [1.0] * len(step.products.model.parameters), exchange=step.exchange)
    return lr * weight_gradient(unit, lr * weights, step.validation)

"""One step of learning with a constraint (Liu et al. 2022, eq. 7 to 9)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from skreweight.core.curvature import diagonal
from skreweight.core.gradients import BatchGradients
from skreweight.core.validation_loss import ValidationLoss


class ConstraintStep(NamedTuple):
    """What a step did: w' − w of shape (B,), η, and L_val on both sides of it (scalars)."""

    weight_change: Tensor
    step_size: Tensor
    loss_before: Tensor
    loss_after: Tensor


def constraint_step(
    gradients: BatchGradients,
    targets: Any,
    weights: Tensor,
    validation: ValidationLoss,
    *,
    multiplicity: Tensor | None,
    curvature: str,
    damping: float,
    n_probes: int,
    step_size: float | None,
    polyak: float | None,
    backtrack: bool,
) -> ConstraintStep:
    """Move the model's parameters and return by how much the weights move with them.

    Along the constraint F(θ)w = c, ∂θ/∂w = −diag(h)F (eq. 7), so that

        u = Fᵀ(h∘∇L_val),  w' = w + ηu (eq. 8),  θ' = θ − ηh∘Fu (eq. 9).

    L_val falls by η‖u‖² to first order: the derivative of L_val along the move of θ is −‖u‖².

    Parameters
    ----------
    gradients : BatchGradients
        Of the training batch at the model's parameters, which this function changes in place.
    targets : torch.Tensor of shape (B,)
    weights : torch.Tensor of shape (B,)
        w, normalised as the design fixes its scale.
    validation : ValidationLoss
    multiplicity : torch.Tensor of shape (B,) or None
        How many times each row of the batch counts.
    curvature, damping, n_probes
        h = 1/(D + damping) with the diagonal D of that name, see `skreweight.core.curvature`.
    step_size : float or None
        Upper limit of η.
    polyak : float or None
        η ≤ polyak · L_val/‖u‖².
    backtrack : bool
        Take no step that does not lower L_val.
    """
    model = gradients.model
    base = [p.detach().clone() for p in model.parameters]
    loss_before, gradient = validation.value_and_gradient(base)
    d = diagonal(curvature, gradients, targets, weights, n_probes=n_probes)
    with torch.no_grad():
        h = torch._foreach_reciprocal(torch._foreach_add(d, damping))
        u = gradients.project(torch._foreach_mul(h, gradient))
        counted = u if multiplicity is None else u * multiplicity
        descent = torch.dot(u, counted)
        move = torch._foreach_mul(h, gradients.weighted(counted))
        eta = _first_step_size(loss_before, descent, step_size, polyak)
    if backtrack:
        eta, loss_after = _safe_step_size(validation, base, move, eta, loss_before, descent)
    else:
        loss_after = validation.value(_moved(base, move, eta))
    with torch.no_grad():
        torch._foreach_copy_(model.parameters, _moved(base, move, eta))
    return ConstraintStep(eta * u, eta, loss_before, loss_after)


def _first_step_size(loss: Tensor, descent: Tensor, limit: float | None, polyak: float | None) -> Tensor:
    eta = torch.full_like(loss, float("inf") if limit is None else limit)
    if polyak is not None:
        eta = torch.minimum(eta, polyak * loss / descent)
    # Nothing to gain (‖u‖ = 0), or no number: no step.
    return torch.where(eta.isfinite(), eta, 0.0)


def _safe_step_size(
    validation: ValidationLoss,
    base: list[Tensor],
    move: tuple[Tensor, ...],
    eta: Tensor,
    loss_before: Tensor,
    descent: Tensor,
) -> tuple[Tensor, Tensor]:
    """η, or the minimum of the parabola through L_val(0), its slope −‖u‖² and L_val(η), or 0."""
    first = validation.value(_moved(base, move, eta))
    excess = first - loss_before + eta * descent
    shorter = descent * eta.square() / (2 * excess)
    shorter = torch.where(shorter.isfinite(), shorter.clamp(min=0), 0.0).minimum(eta / 2)
    second = validation.value(_moved(base, move, shorter))
    take_first, take_second = first <= loss_before, second <= loss_before
    chosen = torch.where(take_first, eta, torch.where(take_second, shorter, torch.zeros_like(eta)))
    return chosen, torch.where(take_first, first, torch.where(take_second, second, loss_before))


def _moved(base: list[Tensor], move: tuple[Tensor, ...] | list[Tensor], eta: Tensor) -> list[Tensor]:
    step = [torch.where(m.isfinite(), m, 0.0) * -eta for m in move]
    return list(torch._foreach_add(base, step))

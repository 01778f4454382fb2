"""One step of learning with a constraint (Liu et al. 2022, eq. 7 to 9)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skreweight.core.curvature import diagonal
from skreweight.core.exchange import LOCAL, Exchange
from skreweight.core.members import each, over
from skreweight.core.products import Products
from skreweight.core.validation_loss import ValidationLoss


class ConstraintStep(NamedTuple):
    """What a step did.

    ``weight_change`` is w' − w, shape (*M, B); ``share`` goes to the next step; ``tried`` is the η that was tried and
    ``loss_tried`` L_val there, ``taken`` whether it was kept, ``loss_before`` L_val before: (*M, 1) each.
    """

    weight_change: Tensor
    share: Tensor
    tried: Tensor
    taken: Tensor
    loss_before: Tensor
    loss_tried: Tensor

    @property
    def step_size(self) -> Tensor:
        """η, 0 where no step was taken."""
        return torch.where(self.taken, self.tried, 0.0)

    @property
    def loss_after(self) -> Tensor:
        """L_val after the step."""
        return torch.where(self.taken, self.loss_tried, self.loss_before)


def constraint_step(
    products: Products,
    weights: Tensor,
    validation: ValidationLoss,
    *,
    multiplicity: Tensor | None,
    curvature: str,
    damping: Tensor | float,
    n_probes: int,
    step_size: Tensor | float | None,
    polyak: Tensor | float | None,
    share: Tensor | None,
    halted: Tensor | None = None,
    known: tuple[Tensor, list[Tensor]] | None = None,
    exchange: Exchange = LOCAL,
) -> ConstraintStep:
    """Move the model's parameters and return by how much the weights move with them.

    Along the constraint F(θ)w = c, ∂θ/∂w = −diag(h)F (eq. 7), so that

        u = Fᵀ(h∘∇L_val),  w' = w + ηu (eq. 8),  θ' = θ − ηh∘Fu (eq. 9).

    L_val falls by η‖u‖² to first order: the derivative of L_val along the move of θ is −‖u‖².

    Parameters
    ----------
    products : Products
        Of the training batch at the model's parameters, which this function changes in place.
    weights : torch.Tensor of shape (*M, B)
        w, normalised as the design fixes its scale.
    validation : ValidationLoss
    multiplicity : torch.Tensor of shape (*M, B) or None
        How many times each row of the batch counts.
    curvature, damping, n_probes
        h = 1/(D + damping) with the diagonal D of that name, see `skreweight.core.curvature`.
    step_size : float, tensor (K, 1) or None
        Upper limit of η.
    polyak : float, tensor (K, 1) or None
        η ≤ polyak · L_val/‖u‖².
    share : torch.Tensor of shape (*M, 1) or None
        Backtracking: share of the largest η to try. A step that raises L_val is not taken, and the next one
        tries a quarter of its share; after one that is taken, the next tries twice its share, at most 1. So
        one evaluation of L_val is enough, and no value has to be looked at. None: no backtracking.
    halted : torch.Tensor of shape (*M, 1) or None, default=None
        No step is taken where this is above 0.
    known : tuple of torch.Tensor and list of torch.Tensor, or None, default=None
        L_val and ∇L_val at the model's parameters, where they were computed with `products`; the latter is written
        over.
    exchange : Exchange
        Sums over the processes that share the batch; one process by default.
    """
    base = [p.detach() for p in products.model.parameters]
    loss_before, gradient = validation.value_and_gradient(base) if known is None else known
    d = diagonal(curvature, products, weights, n_probes=n_probes, exchange=exchange)
    with torch.no_grad():
        # Vectors shaped like the parameters are written over as soon as they have served: new memory costs more.
        one_over_h = [entry.add_(each(damping, entry)) for entry in d]
        torch._foreach_div_(gradient, one_over_h)
        u = products.project(gradient)
        counted = u if multiplicity is None else u * multiplicity
        descent = exchange.sum((u * counted).sum(-1, keepdim=True))
        eta = _largest_step_size(loss_before, descent, step_size, polyak)
        if share is not None:
            eta = eta * share
        moved = products.weighted(eta * counted)
        for p, f, denominator in zip(base, moved, one_over_h, strict=True):
            torch.addcdiv(p, f, denominator, value=-1.0, out=f)
        loss_tried = validation.value(moved)
        taken = loss_tried.isfinite() if share is None else loss_tried <= loss_before
        if halted is not None:
            taken = taken & (halted == 0)
        for p, m in zip(base, moved, strict=True):
            torch.where(over(taken, p), m, p, out=p)
        next_share = (
            torch.ones_like(eta) if share is None else (share * torch.where(taken, 2.0, 0.25)).clamp(max=1)
        )
        change = torch.where(taken, eta * u, 0.0)
        return ConstraintStep(change, next_share, eta, taken, loss_before, loss_tried)


def _largest_step_size(
    loss: Tensor, descent: Tensor, limit: Tensor | float | None, polyak: Tensor | float | None
) -> Tensor:
    eta = torch.full_like(loss, float("inf")) if limit is None else torch.zeros_like(loss) + limit
    if polyak is not None:
        eta = torch.minimum(eta, polyak * loss / descent)
    # Nothing to gain (‖u‖ = 0), or no number: no step.
    return torch.where(descent > 0, eta, 0.0)

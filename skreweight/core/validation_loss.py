"""L_val(θ): the mean loss on the balanced validation rows, plus a penalty where one is set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skreweight.core.chain import Chain
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.members import Parameters, each
from skreweight.core.model import Model
from skreweight.core.penalties import lp_penalty, lp_penalty_gradient
from skreweight.core.rows import parts, take_rows
from skreweight.core.signal_products import SignalProducts

#: Validation rows that go through the network at once: it may widen each of them a hundredfold.
ROWS_AT_ONCE = 1024


class ValidationLoss:
    """L_val(θ) = (1/m) Σ_j f_j(θ) + lp_coef · ``Σ_k |θ_k|^lp_norm``, always in evaluation mode.

    Parameters
    ----------
    model : Model
        In either mode.
    loss : ExampleLoss
        Without class weights: the rows are balanced as they are.
    x, targets : the m validation rows
        Shapes (*M, m, ...) and (*M, m).
    lp_norm, lp_coef : float, or torch.Tensor of shape (K, 1), default=2 and 0.0
    batch_size : int or None, default=None
        How many of the rows, drawn afresh by `draw`, stand for all; None takes all.
    rows_at_once : int, default=1024
        How many of them go through the network at once: L_val and its gradient are sums over such parts.

    Attributes
    ----------
    model : Model
        In evaluation mode.
    chain : Chain or None
        The model as a chain, where it is one and its rows are a table.
    """

    def __init__(
        self,
        model: Model,
        loss: ExampleLoss,
        x: Any,
        targets: Tensor,
        *,
        lp_norm: Tensor | float = 2,
        lp_coef: Tensor | float = 0.0,
        batch_size: int | None = None,
        rows_at_once: int = ROWS_AT_ONCE,
    ) -> None:
        self.model = model.evaluation() if model.training else model
        self.loss = loss
        self.lp_norm, self.lp_coef = lp_norm, lp_coef
        self._all = (x, targets)
        self._rows_at_once = rows_at_once
        self._drawn = self._all
        is_table = isinstance(x, Tensor) and x.dim() == self.model.n_lead + 2
        self.chain = Chain.of(self.model) if is_table else None
        self._batch_size = batch_size if batch_size is not None and batch_size < targets.shape[-1] else None

    def draw(self) -> None:
        """Draw the rows that stand for L_val until the next call."""
        if self._batch_size is None:
            return
        x, targets = self._all
        rows = self.model.draws.integers(targets.shape[-1], self._batch_size, targets.device)
        if rows.dim() == 1:
            self._drawn = (take_rows(x, rows), targets.index_select(0, rows))
        else:
            of_members = torch.arange(len(rows), device=rows.device).unsqueeze(-1)
            taken = (
                x[of_members, rows]
                if isinstance(x, Tensor)
                else {k: v[of_members, rows] for k, v in x.items()}
            )
            self._drawn = (taken, targets[of_members, rows])

    @property
    def rows(self) -> tuple[Any, Tensor]:
        """The rows that stand for L_val at present: features and targets."""
        return self._drawn

    def value(self, parameters: Parameters) -> Tensor:
        """Return L_val at the parameters, (*M, 1)."""
        m = self._drawn[1].shape[-1]
        total = torch.zeros((), device=self._drawn[1].device)
        with torch.no_grad():
            for x, targets in parts(*self._drawn, self._rows_at_once):
                if self.chain is not None:
                    outputs = self.chain.forward(parameters, x).outputs
                else:
                    outputs = self.model.at(parameters, x)
                total = total + self.loss(outputs, targets).sum(-1, keepdim=True)
        return self.penalised(total / m, parameters)

    def value_and_gradient(self, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
        """Return L_val, (*M, 1), and ∇L_val at the parameters, shaped like them."""
        m = self._drawn[1].shape[-1]
        shares = [self._share(parameters, x, y, m) for x, y in parts(*self._drawn, self._rows_at_once)]
        mean, gradient = shares[0]
        for more, further in shares[1:]:
            mean = mean + more
            torch._foreach_add_(gradient, further)
        return self.penalised(mean, parameters), self.penalised_gradient(gradient, parameters)

    def _share(self, parameters: Parameters, x: Any, targets: Tensor, m: int) -> tuple[Tensor, list[Tensor]]:
        """Return what some of the m rows add to the mean loss and its gradient."""
        if self.chain is not None:
            recorded = self.chain.forward(parameters, x)
            return _share_of(SignalProducts.of(self.model, recorded, targets, self.loss), m)
        leaves = [p.detach().requires_grad_() for p in parameters]
        with torch.enable_grad():
            mean = self.loss(self.model.at(leaves, x), targets).sum(-1, keepdim=True) / m
            # The networks of a pack do not meet: the gradient of the sum is that of each.
            gradient = torch.autograd.grad(mean.sum(), leaves, allow_unused=True, materialize_grads=True)
        # Zeros that stand for no gradient require one themselves in torch 2.6.
        return mean.detach(), [g.detach() for g in gradient]

    def of_rows(self, products: SignalProducts, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
        """Return L_val and ∇L_val from the products of the rows that stand for it."""
        mean, gradient = _share_of(products, products.losses.shape[-1])
        return self.penalised(mean, parameters), self.penalised_gradient(gradient, parameters)

    @property
    def in_parts(self) -> bool:
        """Whether the rows are too many to go through the network at once."""
        return self._drawn[1].shape[-1] > self._rows_at_once

    @property
    def is_penalised(self) -> bool:
        """Whether the penalty has a coefficient other than 0."""
        return isinstance(self.lp_coef, Tensor) or self.lp_coef != 0

    def penalised_gradient(self, gradient: list[Tensor], parameters: Parameters) -> list[Tensor]:
        """Return the gradient plus that of the penalty."""
        if not self.is_penalised:
            return gradient
        penalty = lp_penalty_gradient(parameters, self.lp_norm)
        return [g + each(self.lp_coef, q) * q for g, q in zip(gradient, penalty, strict=True)]

    def penalised(self, mean: Tensor, parameters: Parameters) -> Tensor:
        """Return a loss plus the penalty."""
        if not self.is_penalised:
            return mean
        return mean + self.lp_coef * lp_penalty(parameters, self.lp_norm, self.model.n_lead)


def _share_of(products: SignalProducts, m: int) -> tuple[Tensor, list[Tensor]]:
    """Return what the rows of some products add to the mean over m rows and to its gradient."""
    losses = products.losses.detach()
    return losses.sum(-1, keepdim=True) / m, products.weighted(torch.full_like(losses, 1.0 / m))

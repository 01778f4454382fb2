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
from skreweight.core.rows import take_rows
from skreweight.core.signal_products import SignalProducts


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
    ) -> None:
        self.model = model.evaluation() if model.training else model
        self.loss = loss
        self.lp_norm, self.lp_coef = lp_norm, lp_coef
        self._all = (x, targets)
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
        x, targets = self._drawn
        with torch.no_grad():
            if self.chain is not None:
                outputs = self.chain.forward(parameters, x).outputs
            else:
                outputs = self.model.at(parameters, x)
            return self.penalised(self.loss(outputs, targets).mean(-1, keepdim=True), parameters)

    def value_and_gradient(self, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
        """Return L_val, (*M, 1), and ∇L_val at the parameters, shaped like them."""
        x, targets = self._drawn
        if self.chain is not None:
            recorded = self.chain.forward(parameters, x)
            return self.of_rows(SignalProducts.of(self.model, recorded, targets, self.loss), parameters)
        leaves = [p.detach().requires_grad_() for p in parameters]
        with torch.enable_grad():
            mean = self.loss(self.model.at(leaves, x), targets).mean(-1, keepdim=True)
            # The networks of a pack do not meet: the gradient of the sum is that of each.
            gradient = list(
                torch.autograd.grad(mean.sum(), leaves, allow_unused=True, materialize_grads=True)
            )
        return self.penalised(mean.detach(), parameters), self.penalised_gradient(gradient, parameters)

    def of_rows(self, products: SignalProducts, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
        """Return L_val and ∇L_val from the products of the rows that stand for it."""
        losses = products.losses.detach()
        gradient = products.weighted(torch.full_like(losses, 1.0 / losses.shape[-1]))
        return (
            self.penalised(losses.mean(-1, keepdim=True), parameters),
            self.penalised_gradient(gradient, parameters),
        )

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

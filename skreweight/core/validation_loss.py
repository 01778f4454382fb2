"""L_val(θ): the mean loss on the balanced validation rows, plus a penalty where one is set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skreweight.core.chain import Chain
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model, Parameters
from skreweight.core.penalties import lp_penalty, lp_penalty_gradient
from skreweight.core.signals import SignalGradients


class ValidationLoss:
    """L_val(θ) = (1/M) Σ_m f_m(θ) + lp_coef · ``Σ_k |θ_k|^lp_norm``, always in evaluation mode.

    Parameters
    ----------
    model : Model
    loss : ExampleLoss
        Without class weights: the rows are balanced as they are.
    x, targets : the M validation rows
    lp_norm : float, default=2
    lp_coef : float, default=0.0
    batch_size : int or None, default=None
        How many of the rows, drawn afresh by `draw`, stand for all; None takes all.
    """

    def __init__(
        self,
        model: Model,
        loss: ExampleLoss,
        x: Any,
        targets: Tensor,
        *,
        lp_norm: float = 2,
        lp_coef: float = 0.0,
        batch_size: int | None = None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.lp_norm, self.lp_coef = lp_norm, lp_coef
        self._all = (x, targets)
        self._drawn = self._all
        self.refresh()
        self._batch_size = batch_size if batch_size is not None and batch_size < len(targets) else None

    def refresh(self) -> None:
        """Take note of which parameters the model trains."""
        x, _ = self._all
        with self.model.evaluating():
            self._chain = Chain.of(self.model) if isinstance(x, Tensor) and x.dim() == 2 else None

    def draw(self) -> None:
        """Draw the rows that stand for L_val until the next call."""
        if self._batch_size is not None:
            x, targets = self._all
            rows = torch.randint(len(targets), (self._batch_size,), device=targets.device)
            self._drawn = (take_rows(x, rows), targets.index_select(0, rows))

    @property
    def rows(self) -> tuple[Any, Tensor]:
        """The rows that stand for L_val at present: features and targets."""
        return self._drawn

    def value(self, parameters: Parameters) -> Tensor:
        """Return L_val at the parameters, a scalar."""
        x, targets = self._drawn
        with torch.no_grad():
            if self._chain is not None:
                outputs = self._chain.forward(parameters, x).outputs
            else:
                with self.model.evaluating():
                    outputs = self.model.at(parameters, x)
            return self.penalised(self.loss(outputs, targets).mean(), parameters)

    def value_and_gradient(self, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
        """Return L_val and ∇L_val at the parameters, which are marked as requiring gradients."""
        x, targets = self._drawn
        if self._chain is not None:
            recorded = self._chain.forward(parameters, x)
            of_rows = SignalGradients.of(self.model, recorded, targets, self.loss)
            return self.of_rows(of_rows, parameters)
        leaves = [p if p.requires_grad else p.requires_grad_() for p in parameters]
        with torch.enable_grad(), self.model.evaluating():
            mean = self.loss(self.model.at(leaves, x), targets).mean()
            gradient = list(torch.autograd.grad(mean, leaves, allow_unused=True, materialize_grads=True))
        return self.penalised(mean.detach(), parameters), self.penalised_gradient(gradient, parameters)

    def of_rows(self, gradients: SignalGradients, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
        """Return L_val and ∇L_val from the products of the rows that stand for it."""
        losses = gradients.losses.detach()
        gradient = gradients.weighted(torch.full_like(losses, 1.0 / len(losses)))
        return self.penalised(losses.mean(), parameters), self.penalised_gradient(gradient, parameters)

    def penalised_gradient(self, gradient: list[Tensor], parameters: Parameters) -> list[Tensor]:
        """Return the gradient plus that of the penalty."""
        if self.lp_coef == 0:
            return gradient
        penalty = lp_penalty_gradient(parameters, self.lp_norm)
        return [g + self.lp_coef * q for g, q in zip(gradient, penalty, strict=True)]

    def penalised(self, mean: Tensor, parameters: Parameters) -> Tensor:
        """Return a loss plus the penalty."""
        return mean if self.lp_coef == 0 else mean + self.lp_coef * lp_penalty(parameters, self.lp_norm)


def take_rows(x: Any, rows: Tensor) -> Any:
    """Return some rows of a tensor, or of every tensor of a mapping."""
    if isinstance(x, torch.Tensor):
        return x.index_select(0, rows)
    return {name: value.index_select(0, rows) for name, value in x.items()}

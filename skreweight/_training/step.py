"""One training step: a batch comes in, the parameters move."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from skreweight._rows.batches import Batch
from skreweight._training.guard import Guard
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.exchange import LOCAL, Exchange
from skreweight.core.model import Model
from skreweight.core.products import Products, ProductsFinder
from skreweight.core.validation_loss import ValidationLoss
from skreweight.weighting import Step, Weighting


class Outcome(NamedTuple):
    """What a step did: Σ_i w_i f_i before it (*M, 1), w (*M, B), the outputs (*M, B, C), and whether it was taken."""

    loss: Tensor
    weights: Tensor
    outputs: Tensor
    taken: bool = True


@dataclass(frozen=True)
class TrainingStep:
    """The step of one stage.

    Attributes
    ----------
    model : Model
    optimizer : torch.optim.Optimizer
    weighting : Weighting
        Started.
    loss : ExampleLoss
        Per-example losses of the rows, class weights included.
    guard : Guard
    products : ProductsFinder
        Of the model in training mode.
    products_now : ProductsFinder or None, default=None
        In evaluation mode.
    validation : ValidationLoss or None, default=None
    multiplicity : torch.Tensor of shape (N,) or (*M, N), or None, default=None
        How many times each row of X counts.
    penalised : bool, default=False
        Whether the penalty of `validation` is part of the loss, as where its rows are trained on.
    network_is_fixed : bool, default=False
        Whether no parameter of the network moves, only the weighting's correction of its logits.
    on_gradients : callable or None, default=None
        Called with the batch when the gradients stand in the parameters, before the optimiser's step.
    autocast : torch.dtype or None, default=None
        Precision of the forward passes that need no products of gradients; None: that of the module.
    noted : dict or None, default=None
        Where the weighting puts figures for the diagnostics; None while nobody asked for them.
    exchange : Exchange
        Sums over the processes that share a batch; one process by default.
    """

    model: Model
    optimizer: Optimizer
    weighting: Weighting
    loss: ExampleLoss
    guard: Guard
    products: ProductsFinder
    products_now: ProductsFinder | None = None
    validation: ValidationLoss | None = None
    multiplicity: Tensor | None = None
    penalised: bool = False
    network_is_fixed: bool = False
    on_gradients: Callable[[Batch], None] | None = None
    autocast: torch.dtype | None = None
    noted: dict[str, list[Tensor]] | None = None
    exchange: Exchange = LOCAL

    def __call__(self, batch: Batch) -> Outcome:
        """Take one step on the batch."""
        self.guard.before_forward()
        if self.network_is_fixed:
            return self._on_correction(batch)
        if self.weighting.needs_products or (self.autocast is None and self.products.is_chain):
            return self._on_products(batch)
        return self._on_loss(batch)

    def _on_loss(self, batch: Batch) -> Outcome:
        if self.autocast is None:
            outputs = self.model(batch.x)
            losses = self.loss(outputs, batch.targets)
        else:
            with torch.autocast(batch.targets.device.type, self.autocast):
                outputs = self.model(batch.x)
                losses = self.loss(outputs, batch.targets)
        step = self._describe(batch, losses.detach())
        weights = self.weighting.weigh(step)
        total = (weights * losses.to(weights.dtype)).sum(-1, keepdim=True)
        for parameter in (*self.model.parameters, *self.loss.parameters):
            parameter.grad = None
        total.sum().backward()
        if self.exchange.is_shared:
            self._sum_gradients()
        total = self.exchange.loss(total.detach())
        taken = self._apply(batch, total, weights, step)
        return Outcome(total, weights, outputs.detach(), taken)

    def _on_products(self, batch: Batch) -> Outcome:
        products = self.products(batch.x, batch.targets, self.loss)
        step = self._describe(batch, products.losses.detach(), products)
        if self.weighting.needs_products and self.validation is not None:
            self.validation.draw()
        weights = self.weighting.weigh(step)
        combined = products.weighted if self.weighting.needs_products else products.once
        gradients = combined(weights)
        for parameter, gradient in zip(self.model.parameters, gradients, strict=True):
            # The fused optimisers read memory as it lies and take no gradient that is laid out otherwise.
            same = gradient.stride() == parameter.stride()
            parameter.grad = gradient if same else torch.empty_like(parameter).copy_(gradient)
        own = self.loss.parameter_gradient(products.outputs, batch.targets, weights)
        for learned, of_it in zip(self.loss.parameters, own, strict=True):
            learned.grad = of_it
        if own and self.exchange.is_shared:
            self._sum_gradients(self.loss.parameters)
        total = self.exchange.loss((weights * step.losses).sum(-1, keepdim=True))
        taken = self._apply(batch, total, weights, step)
        return Outcome(total, weights, products.outputs.detach(), taken)

    def _on_correction(self, batch: Batch) -> Outcome:
        with torch.no_grad():
            outputs = self.model(batch.x)
            losses = self.loss(self.weighting.corrected(outputs), batch.targets)
        step = self._describe(batch, losses)
        step.outputs = outputs
        weights = self.weighting.weigh(step)
        total = self.exchange.loss((weights * losses).sum(-1, keepdim=True))
        for parameter in self.model.parameters:
            parameter.grad = None
        taken = self.guard.step(total, lambda: total.squeeze())
        if taken:
            self.weighting.after_step(step)
        return Outcome(total, weights, outputs, taken)

    def _describe(self, batch: Batch, losses: Tensor, products: Products | None = None) -> Step:
        multiplicity = self.multiplicity
        if multiplicity is not None:
            lead = batch.rows.shape[:-1]
            multiplicity = multiplicity.expand(*lead, -1).gather(-1, batch.rows)
        if self.exchange.is_shared:
            multiplicity = self.exchange.multiplicity(multiplicity, losses)
        return Step(
            rows=batch.rows,
            targets=batch.targets,
            losses=losses,
            multiplicity=multiplicity,
            optimizer=self.optimizer,
            products=products,
            validation=self.validation,
            products_now=lambda: self._products_now(batch),
            halted=self.guard.halted,
            loss=self.loss,
            diagnostics=self.noted,
            exchange=self.exchange,
        )

    def _apply(self, batch: Batch, loss: Tensor, weights: Tensor, step: Step) -> bool:
        """Step the optimiser on the gradients in place, and do what the weighting does then; False where skipped."""
        self._add_penalty()
        if self.on_gradients is not None:
            self.on_gradients(batch)
        closure = self._closure(batch, weights) if self._wants_closure else None
        taken = self.guard.step(loss, closure)
        if taken:
            self.weighting.after_step(step)
        return taken

    def _sum_gradients(self, parameters: Sequence[Tensor] | None = None) -> None:
        """Sum the gradients in place over the processes."""
        own = (*self.model.parameters, *self.loss.parameters) if parameters is None else parameters
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        for parameter, summed in zip(own, self.exchange.gradients(grads), strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(summed)

    @cached_property
    def _wants_closure(self) -> bool:
        """Whether the optimiser's step looks at the loss itself: it is LBFGS, or cannot be called without a closure."""
        closure = inspect.signature(self.optimizer.step).parameters.get("closure")
        required = closure is not None and closure.default is inspect.Parameter.empty
        return required or isinstance(self.optimizer, LBFGS)

    def _add_penalty(self) -> None:
        if self.penalised and self.validation is not None:
            parameters = self.model.parameters
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            for parameter, g in zip(
                parameters, self.validation.penalised_gradient(grads, parameters), strict=True
            ):
                parameter.grad = g

    def _closure(self, batch: Batch, weights: Tensor) -> Callable[[], Tensor]:
        """The loss as a line search asks for it: with the weights of the step held fixed."""

        def evaluate() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.enable_grad():
                total = (weights * self.loss(self.model(batch.x), batch.targets)).sum()
                total.backward()
            if self.exchange.is_shared:
                self._sum_gradients()
                total = self.exchange.sum(total.detach().unsqueeze(0)).squeeze(0)
            self._add_penalty()
            if self.penalised and self.validation is not None:
                return self.validation.penalised(total.detach(), self.model.parameters).squeeze()
            return total.detach()

        return evaluate

    def _products_now(self, batch: Batch) -> tuple[Products, tuple[Tensor, list[Tensor]]]:
        """The batch's products and L_val with its gradient, as parameters are now, in evaluation mode."""
        assert self.validation is not None and self.products_now is not None
        return self.products_now.with_validation(batch.x, batch.targets, self.loss, self.validation)

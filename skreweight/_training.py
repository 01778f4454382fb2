"""One training step: a batch comes in, the parameters move."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from skreweight._guard import FiniteGuard
from skreweight.batches import Batch
from skreweight.core.chain import Chain
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.products import Products, ProductsFinder
from skreweight.core.validation_loss import ValidationLoss
from skreweight.weighting import NoWeighting, Step, Weighting


class StepResult(NamedTuple):
    loss: Tensor
    weights: Tensor
    outputs: Tensor


class Trainer:
    def __init__(
        self,
        model: Model,
        optimizer: Optimizer,
        loss: ExampleLoss,
        *,
        validation: ValidationLoss | None,
        multiplicity: Tensor | None,
        guard: FiniteGuard,
        on_gradients: Callable[[Batch], None] | None = None,
        autocast: torch.dtype | None = None,
        trusting: bool = False,
    ) -> None:
        self.trusting = trusting
        self.optimizer = optimizer
        self.loss = loss
        self.validation = validation
        self.multiplicity = multiplicity
        self.guard = guard
        self.on_gradients = on_gradients
        self.autocast = autocast
        self.diagnostics: dict[str, list[Tensor]] | None = None
        self._use(model)

    def _use(self, model: Model) -> None:
        self.model = model
        self._finder = ProductsFinder(model, trusting=self.trusting)
        self._is_chain = self.autocast is None and Chain.of(model) is not None
        self._evaluation: ProductsFinder | None = None
        if self.validation is not None:
            self._evaluation = ProductsFinder(self.validation.model, trusting=self.trusting)

    def step(self, batch: Batch, weighting: Weighting) -> StepResult:
        self.guard.before_forward()
        if weighting.needs_products or self._is_chain:
            return self._step_on_products(batch, weighting)
        return self._step_on_loss(batch, weighting)

    def _step_on_loss(self, batch: Batch, weighting: Weighting) -> StepResult:
        if self.autocast is None:
            outputs = self.model(batch.x)
            losses = self.loss(outputs, batch.targets)
        else:
            with torch.autocast(batch.targets.device.type, self.autocast):
                outputs = self.model(batch.x)
                losses = self.loss(outputs, batch.targets)
        step = self._describe(batch, losses.detach())
        weights = weighting.weigh(step)
        total = (weights * losses.to(weights.dtype)).sum(-1, keepdim=True)
        for parameter in self.model.parameters:
            parameter.grad = None
        total.sum().backward()
        self._add_penalty(weighting)
        if self._apply(batch, total.detach(), weights, weighting):
            weighting.after_step(step)
        return StepResult(total.detach(), weights, outputs.detach())

    def _step_on_products(self, batch: Batch, weighting: Weighting) -> StepResult:
        products = self._finder(batch.x, batch.targets, self.loss)
        step = self._describe(batch, products.losses.detach(), products)
        if weighting.needs_products and self.validation is not None:
            self.validation.draw()
        weights = weighting.weigh(step)
        for parameter, gradient in zip(self.model.parameters, products.weighted(weights), strict=True):
            parameter.grad = gradient
        self._add_penalty(weighting)
        total = (weights * step.losses).sum(-1, keepdim=True)
        if self._apply(batch, total, weights, weighting):
            weighting.after_step(step)
        return StepResult(total, weights, products.outputs.detach())

    def _describe(self, batch: Batch, losses: Tensor, products: Products | None = None) -> Step:
        multiplicity = None if self.multiplicity is None else self.multiplicity.gather(-1, batch.rows)
        return Step(
            rows=batch.rows,
            targets=batch.targets,
            losses=losses,
            multiplicity=multiplicity,
            optimizer=self.optimizer,
            products=products,
            validation=self.validation,
            products_now=lambda: self._now(batch),
            halted=self.guard.halted,
            diagnostics=self.diagnostics,
        )

    def _now(self, batch: Batch) -> tuple[Products, tuple[Tensor, list[Tensor]]]:
        assert self._evaluation is not None and self.validation is not None
        return self._evaluation.with_validation(batch.x, batch.targets, self.loss, self.validation)

    def _add_penalty(self, weighting: Weighting) -> None:
        if weighting.stage_two_rows == "validation" and self.validation is not None:
            parameters = self.model.parameters
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            for parameter, g in zip(
                parameters, self.validation.penalised_gradient(grads, parameters), strict=True
            ):
                parameter.grad = g

    def _apply(self, batch: Batch, loss: Tensor, weights: Tensor, weighting: Weighting) -> bool:
        if self.on_gradients is not None:
            self.on_gradients(batch)
        closure = None
        if isinstance(self.optimizer, LBFGS):
            closure = self._closure(batch, weights, weighting)
        return self.guard.step(loss, closure)

    def _closure(self, batch: Batch, weights: Tensor, weighting: Weighting) -> Callable[[], Tensor]:
        def evaluate() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            with torch.enable_grad():
                total = torch.dot(weights, self.loss(self.model(batch.x), batch.targets))
                total.backward()
            self._add_penalty(weighting)
            if weighting.stage_two_rows == "validation" and self.validation is not None:
                return self.validation.penalised(total.detach(), self.model.parameters)
            return total.detach()

        return evaluate


PLAIN = NoWeighting()

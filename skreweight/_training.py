"""One training step: a batch comes in, the parameters move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from skreweight._captured import CapturedStep, StepResult
from skreweight._guard import FiniteGuard
from skreweight.batches import Batch
from skreweight.core.chain import Chain
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.gradients import BatchGradients, GraphGradients
from skreweight.core.model import Model, inner
from skreweight.core.signals import SignalRecorder, agrees
from skreweight.core.validation_loss import ValidationLoss, take_rows
from skreweight.weighting import NoWeighting, Step, Weighting

#: Rows on which the fast products are compared with slow ones before they are used.
N_ROWS_COMPARED = 4


class Trainer:
    """Takes the training steps of one fit.

    Parameters
    ----------
    module : torch.nn.Module
    optimizer : torch.optim.Optimizer
    loss : ExampleLoss
        Per-example losses of the training rows, class weights included.
    validation : ValidationLoss or None
    multiplicity : torch.Tensor of shape (n_rows,) or None
        How many times each row of X counts.
    guard : FiniteGuard
    on_gradients : callable or None, default=None
        Called with the batch when the gradients stand in the parameters, before the optimiser's step.
    autocast : torch.dtype or None, default=None
        Precision of the forward passes that need no products of gradients; None: that of the module.
    cuda_graph : bool, default=False
        Whether steps on a GPU are captured in a CUDA graph.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: Optimizer,
        loss: ExampleLoss,
        *,
        validation: ValidationLoss | None,
        multiplicity: Tensor | None,
        guard: FiniteGuard,
        on_gradients: Callable[[Batch], None] | None = None,
        autocast: torch.dtype | None = None,
        cuda_graph: bool = False,
    ) -> None:
        self.model = Model(module) if validation is None else validation.model
        self.optimizer = optimizer
        self.loss = loss
        self.validation = validation
        self.multiplicity = multiplicity
        self.guard = guard
        self.on_gradients = on_gradients
        self.autocast = autocast
        self.cuda_graph = cuda_graph
        self.diagnostics: dict[str, list[Tensor]] | None = None
        self._captured: dict[tuple[int, int], CapturedStep] = {}
        self._sources: dict[bool, _GradientSource] = {}
        self._chain_found: bool | None = None

    def train(self) -> None:
        """Put the module into training mode, for an epoch's steps."""
        self.model.train(True)

    def follow_frozen(self) -> None:
        """Take note of parameters that a callback froze or unfroze."""
        if self.model.refresh():
            self._sources.clear()
            self._chain_found = None
            self._captured.clear()
            if self.validation is not None:
                self.validation.refresh()
            for parameter in self.model.module.parameters():
                if not parameter.requires_grad:
                    parameter.grad = None

    def renew(self, optimizer: Optimizer) -> None:
        """Go on with another optimiser."""
        self.guard.release()
        self.guard = FiniteGuard(self.model.module, optimizer, self.guard.policy)
        self.optimizer = optimizer
        self._captured.clear()

    def close(self) -> None:
        """Take the guard off the optimiser; leave the module in evaluation mode."""
        self.guard.release()
        self.model.train(False)

    def taker(self, weighting: Weighting) -> Callable[[Batch], StepResult]:
        """Return the function that takes an epoch's steps: `step`, captured in a CUDA graph where asked for."""

        def take(batch: Batch) -> StepResult:
            return self.step(batch, weighting)

        told = self.on_gradients is not None or self.diagnostics is not None
        if not self.cuda_graph or told or not self.model.parameters[0].is_cuda:
            return take
        key = (id(weighting), id(self.loss))
        if key not in self._captured:
            self._captured[key] = CapturedStep(take, self._learning_rates, lambda: self.guard.count_step())
        return self._captured[key]

    def _learning_rates(self) -> tuple[float, ...]:
        return tuple(float(group["lr"]) for group in self.optimizer.param_groups)

    def step(self, batch: Batch, weighting: Weighting) -> StepResult:
        """Take one step.

        Returns
        -------
        loss : torch.Tensor, a scalar
            Σ_i w_i f_i before the step.
        weights : torch.Tensor of shape (B,)
        outputs : torch.Tensor of shape (B, C)
        """
        self.guard.before_forward()
        if weighting.needs_gradients or self._is_chain():
            return self._step_on_products(batch, weighting)
        return self._step_on_loss(batch, weighting)

    def _is_chain(self) -> bool:
        """Whether the products are the fastest way to the gradient of any weighted loss."""
        if self._chain_found is None:
            self._chain_found = self.autocast is None and Chain.of(self.model) is not None
        return self._chain_found

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
        total = torch.dot(weights, losses.to(weights.dtype))
        for parameter in self.model.parameters:
            parameter.grad = None
        total.backward()
        self._add_penalty(weighting)
        if self._apply(batch, total.detach(), weights, weighting):
            weighting.after_step(step)
        return total.detach(), weights, outputs.detach()

    def _step_on_products(self, batch: Batch, weighting: Weighting) -> StepResult:
        gradients = self._gradients(batch, training=True)
        step = self._describe(batch, gradients.losses.detach(), gradients)
        if weighting.needs_gradients and self.validation is not None:
            self.validation.draw()
        weights = weighting.weigh(step)
        for parameter, gradient in zip(self.model.parameters, gradients.weighted(weights), strict=True):
            parameter.grad = gradient
        self._add_penalty(weighting)
        total = torch.dot(weights, step.losses)
        if self._apply(batch, total, weights, weighting):
            weighting.after_step(step)
        return total, weights, gradients.outputs.detach()

    def _describe(self, batch: Batch, losses: Tensor, gradients: BatchGradients | None = None) -> Step:
        multiplicity = None if self.multiplicity is None else self.multiplicity.index_select(0, batch.rows)
        return Step(
            rows=batch.rows,
            targets=batch.targets,
            losses=losses,
            multiplicity=multiplicity,
            optimizer=self.optimizer,
            gradients=gradients,
            validation=self.validation,
            gradients_now=lambda: self._gradients_in_evaluation(batch),
            halted=self.guard.halted,
            diagnostics=self.diagnostics,
        )

    def _add_penalty(self, weighting: Weighting) -> None:
        """Where stage 2 trains on the validation rows, their penalty is part of the loss."""
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
        """The loss as a line search asks for it: with the weights of the step held fixed."""

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

    def _gradients(self, batch: Batch, *, training: bool) -> BatchGradients:
        if training not in self._sources:
            self._sources[training] = _GradientSource(self.model, batch, self.loss)
        return self._sources[training](batch, self.loss)

    def _gradients_in_evaluation(self, batch: Batch) -> tuple[BatchGradients, tuple[Tensor, list[Tensor]]]:
        assert self.validation is not None
        with self.model.evaluating():
            if False not in self._sources:
                self._sources[False] = _GradientSource(self.model, batch, self.loss)
            return self._sources[False].with_validation(batch, self.loss, self.validation)


class _GradientSource:
    """The fastest way to a batch's products that gives the right ones, found on a few rows of the first."""

    def __init__(self, model: Model, batch: Batch, loss: ExampleLoss) -> None:
        self.model = model
        hardest = _hardest_rows(model, batch, loss)
        x, targets = take_rows(batch.x, hardest), batch.targets.index_select(0, hardest)
        recorder = SignalRecorder(model)
        self._recorder = recorder if recorder.complete and agrees(recorder, x, targets, loss) else None
        self._forward_mode = self._recorder is None and _has_forward_mode(model, x, targets, loss)

    def __call__(self, batch: Batch, loss: ExampleLoss) -> BatchGradients:
        if self._recorder is not None:
            return self._recorder(batch.x, batch.targets, loss)
        return GraphGradients(self.model, batch.x, batch.targets, loss, forward_mode=self._forward_mode)

    def with_validation(
        self, batch: Batch, loss: ExampleLoss, validation: ValidationLoss
    ) -> tuple[BatchGradients, tuple[Tensor, list[Tensor]]]:
        """Return the batch's products, and L_val and its gradient at the same parameters, from one pass if possible."""
        parameters = self.model.parameters
        x_val, val_targets = validation.rows
        if self._recorder is None or not isinstance(batch.x, Tensor) or not isinstance(x_val, Tensor):
            return self(batch, loss), validation.value_and_gradient([p.detach() for p in parameters])
        gradients, of_validation = self._recorder.together(
            (batch.x, batch.targets, loss), (x_val, val_targets, validation.loss)
        )
        return gradients, validation.of_rows(of_validation, parameters)


@torch.no_grad()
def _hardest_rows(model: Model, batch: Batch, loss: ExampleLoss) -> Tensor:
    """Rows with the largest losses: what rounding leaves of a fitted row's gradient tells nothing."""
    with model.untouched():
        losses = loss(model(batch.x), batch.targets).nan_to_num(0.0)
    return losses.topk(min(N_ROWS_COMPARED, len(losses))).indices


def _has_forward_mode(model: Model, x: Any, targets: Tensor, loss: ExampleLoss) -> bool:
    """Whether forward-mode products exist for every operation and agree with backward passes."""
    with model.untouched():
        gradients = GraphGradients(model, x, targets, loss, forward_mode=True)
        weights = torch.linspace(-1.0, 2.0, len(targets)).to(gradients.losses)
        direction = [torch.randn_like(p) for p in model.parameters]
        try:
            forward = torch.dot(gradients.project(direction), weights)
        except (RuntimeError, NotImplementedError, ValueError, TypeError):
            return False
        backward = inner(gradients.weighted(weights), direction)
        tolerance = torch.finfo(forward.dtype).eps ** 0.5
        return bool((forward - backward).abs() <= tolerance * (1 + backward.abs()))


PLAIN = NoWeighting()

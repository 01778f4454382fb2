"""Which way leads to the products of a batch's gradients: the fastest one that gives the right ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skreweight._rows.batches import Batch
from skreweight.core.chain import Chain
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.gradients import BatchGradients, GraphGradients
from skreweight.core.model import Model, inner
from skreweight.core.signals import SignalRecorder, agrees
from skreweight.core.validation_loss import ValidationLoss, take_rows

#: Rows on which the fast products are compared with slow ones before they are used.
N_ROWS_COMPARED = 4


class ProductsFinder:
    """Finds the way once for each mode of the model, on the first batch that asks.

    Parameters
    ----------
    model : Model
        Where parameters of it are frozen or unfrozen, a new finder is needed.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._sources: dict[bool, _GradientSource] = {}
        self._is_chain: bool | None = None

    @property
    def is_chain(self) -> bool:
        """Whether the products are the fastest way to the gradient of any weighted loss, in the present mode."""
        if self._is_chain is None:
            self._is_chain = Chain.of(self._model) is not None
        return self._is_chain

    def __call__(self, batch: Batch, loss: ExampleLoss) -> BatchGradients:
        """Return the batch's products in the model's present mode."""
        return self._source(batch, loss)(batch, loss)

    def with_validation(
        self, batch: Batch, loss: ExampleLoss, validation: ValidationLoss
    ) -> tuple[BatchGradients, tuple[Tensor, list[Tensor]]]:
        """Return the batch's products, and L_val and its gradient at the same parameters."""
        return self._source(batch, loss).with_validation(batch, loss, validation)

    def _source(self, batch: Batch, loss: ExampleLoss) -> _GradientSource:
        mode = self._model.training
        if mode not in self._sources:
            self._sources[mode] = _GradientSource(self._model, batch, loss)
        return self._sources[mode]


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

"""F w and Fᵀv of a mini-batch by the fastest way that gives the right ones, found once for each mode."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from skreweight.core.chain import Chain
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.graph_products import GraphProducts, has_forward_mode
from skreweight.core.members import Parameters
from skreweight.core.model import Model
from skreweight.core.random_state import drawing
from skreweight.core.rows import take_rows
from skreweight.core.signal_products import SignalRecorder, agrees
from skreweight.core.validation_loss import ValidationLoss

#: Rows on which the fast products are compared with slow ones before they are used.
N_ROWS_COMPARED = 4


class Products(Protocol):
    """The gradients of a mini-batch's losses at the parameters of the model, as products only.

    Attributes
    ----------
    model : Model
    outputs : torch.Tensor of shape (*M, B, C)
    targets : torch.Tensor of shape (*M, B)
    loss : ExampleLoss
        What the losses are of the outputs.
    exact_squares : bool
        Whether `squares` is exact rather than an unbiased estimate.
    """

    model: Model
    outputs: Tensor
    targets: Tensor
    loss: ExampleLoss
    exact_squares: bool

    @property
    def losses(self) -> Tensor:
        """f_i(θ), shape (*M, B)."""
        ...

    def losses_with_graph(self) -> Tensor:
        """Return f_i(θ) with a graph that leads to the parameters, shape (*M, B)."""
        ...

    def weighted(self, weights: Tensor) -> list[Tensor]:
        """Return F w = Σ_i w_i ∇f_i, shaped like the parameters; `weights` has shape (*M, B)."""
        ...

    def once(self, weights: Tensor) -> list[Tensor]:
        """Return F w as the only product that is asked for, which may cost less."""
        ...

    def project(self, direction: Parameters) -> Tensor:
        """Return Fᵀv, shape (*M, B); `direction` is shaped like the parameters."""
        ...

    def squares(self, cotangents: Tensor, weights: Tensor) -> list[Tensor]:
        """Return Σ_r Σ_i w_i (J_iᵀ c_ri)², J_i the Jacobian of row i's outputs.

        `cotangents` has shape (R, *M, B, C), `weights` (*M, B) and no negative entry.
        """
        ...

    def gauss_newton(self, weights: Tensor) -> list[Tensor]:
        """Return the diagonal of Σ_i w_i J_iᵀ (∂²f_i/∂z²) J_i, shaped like the parameters."""
        ...

    def fisher(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_i w_i (∇f_i)², shaped like the parameters."""
        ...


class ProductsFinder:
    """Products of a model's batches, by chain, signals or graph.

    The first batch decides: where the closed formulas of the layers agree with backward passes on its hardest
    rows they are used, otherwise autograd with forward-mode products where those agree, otherwise double backward.

    Parameters
    ----------
    model : Model
    trusting : bool, default=False
        Whether fast products are used without being compared (which reads figures) first.
    """

    def __init__(self, model: Model, *, trusting: bool = False) -> None:
        self.model = model
        self._trusting = trusting
        self._found = False
        self.recorder: SignalRecorder | None = None
        self._forward_mode = True
        #: Whether the model is a chain, so that products are the fastest way to the gradient of any weighted loss.
        self.is_chain = Chain.of(model) is not None

    def __call__(self, x: Any, targets: Tensor, loss: ExampleLoss) -> Products:
        """Run one forward pass and return the products of its gradients."""
        if not self._found:
            self._find(x, targets, loss)
        if self.recorder is not None:
            return self.recorder(x, targets, loss)
        with drawing():
            return GraphProducts(self.model, x, targets, loss, forward_mode=self._forward_mode)

    def with_validation(
        self, x: Any, targets: Tensor, loss: ExampleLoss, validation: ValidationLoss
    ) -> tuple[Products, tuple[Tensor, list[Tensor]]]:
        """Return a batch's products, and L_val and its gradient at the same parameters, from one pass if possible."""
        if not self._found:
            self._find(x, targets, loss)
        x_val, val_targets = validation.rows
        tables = isinstance(x, Tensor) and isinstance(x_val, Tensor)
        if self.recorder is None or not tables or validation.in_parts:
            return self(x, targets, loss), validation.value_and_gradient(self.model.parameters)
        of_batch, of_validation = self.recorder.together(
            (x, targets, loss), (x_val, val_targets, validation.loss)
        )
        return of_batch, validation.of_rows(of_validation, self.model.parameters)

    def _find(self, x: Any, targets: Tensor, loss: ExampleLoss) -> None:
        with drawing():  # random directions
            self._compare(x, targets, loss)

    def _compare(self, x: Any, targets: Tensor, loss: ExampleLoss) -> None:
        self._found = True
        recorder = SignalRecorder(self.model)
        if not recorder.complete and self._trusting:
            return
        if not self._trusting:
            x, targets = _hardest_rows(self.model, x, targets, loss)
        if recorder.complete and (self._trusting or agrees(recorder, x, targets, loss)):
            self.recorder = recorder
        else:
            self._forward_mode = has_forward_mode(self.model, x, targets, loss)


@torch.no_grad()
def _hardest_rows(model: Model, x: Any, targets: Tensor, loss: ExampleLoss) -> tuple[Any, Tensor]:
    """Rows with the largest losses: what rounding leaves of a fitted row's gradient tells nothing."""
    with model.untouched():
        losses = loss(model(x), targets).nan_to_num(0.0)
    rows = losses.topk(min(N_ROWS_COMPARED, losses.shape[-1])).indices
    if not model.shape:
        return take_rows(x, rows), targets.index_select(0, rows)
    members = [take_rows(_member(x, k), of_member) for k, of_member in enumerate(rows)]
    return _stacked(members), targets.gather(-1, rows)


def _member(x: Any, k: int) -> Any:
    return x[k] if isinstance(x, Tensor) else {name: value[k] for name, value in x.items()}


def _stacked(members: list[Any]) -> Any:
    if isinstance(members[0], Tensor):
        return torch.stack(members)
    return {name: torch.stack([m[name] for m in members]) for name in members[0]}

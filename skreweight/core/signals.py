"""F w and Fᵀv of a mini-batch from one pass's activations and backpropagated signals.

For a layer that is linear in its parameters, z_i = θ·a_i, the gradient of row i is δ_i a_iᵀ with the signal
δ_i = ∂f_i/∂z_i. One forward pass gives every a, one backward pass (which forms no parameter gradient) every
δ, and then

    F w = Σ_i w_i δ_i a_iᵀ        Fᵀv = (Σ (v·a_i)∘δ_i)_i        Σ_i w_i (∇f_i)² = (δ²)ᵀ diag(w) a²

each cost one matrix product per layer, however many of them a method needs. Where a loss depends on a single
direction of the outputs (two logits: their difference t), one signal ∂t_i/∂z_i serves the gradients, which are
f_i'(t) times it, and the Gauss-Newton matrix, which is f_i''(t) times its square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.gradients import vector_jacobian
from skreweight.core.layers import Direction, LayerRule, rows_at_once, rule_for
from skreweight.core.model import Model, Parameters, inner


@dataclass(frozen=True)
class _Layer:
    """A layer under observation: its rule and where its parameters stand in the model's list."""

    module: nn.Module
    rule: LayerRule
    positions: dict[str, int]

    def direction(self, vector: Sequence[Tensor]) -> Direction:
        return {name: vector[k] for name, k in self.positions.items()}


@dataclass(frozen=True)
class _Record:
    """One call of a layer: its input and the place in the graph where its output's signal arrives."""

    layer: _Layer
    activation: Tensor
    edge: GradientEdge


class SignalRecorder:
    """Watches a model's layers and turns forward passes into `SignalGradients`.

    Parameters
    ----------
    model : Model
        Its training or evaluation mode at this moment decides which layers have a rule.

    Attributes
    ----------
    complete : bool
        Whether every trainable parameter belongs to a layer with a rule. Whether the products are right as
        well (a module may use a layer's weight behind its back, or mix rows) is for `agrees` to find out.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        position = {id(p): k for k, p in enumerate(model.parameters)}
        self._layers: list[_Layer] = []
        covered: set[int] = set()
        for module in model.module.modules():
            owned = {n: position[id(p)] for n, p in module._parameters.items() if id(p) in position}
            rule = rule_for(module) if owned else None
            if rule is not None:
                self._layers.append(_Layer(module, rule, owned))
                covered |= set(owned.values())
        self.complete = len(covered) == len(model.parameters)

    def __call__(self, x: Any, targets: Any, loss: ExampleLoss) -> SignalGradients:
        """Run one forward pass and return the products of its gradients."""
        records: list[_Record] = []
        with self._watching(records):
            outputs = self.model(x)
        return SignalGradients(self.model, outputs, targets, loss, records)

    @contextmanager
    def _watching(self, records: list[_Record]) -> Iterator[None]:
        """Context in which every call of a layer leaves a record.

        Each layer's ``forward`` is replaced for as long: a hook would stay on the user's module between passes
        and costs several times as much on a small layer.
        """
        replaced = [layer.module.__dict__.get("forward") for layer in self._layers]
        try:
            for layer in self._layers:
                layer.module.__dict__["forward"] = _recording(layer, records)
            yield
        finally:
            for layer, own in zip(self._layers, replaced, strict=True):
                if own is None:
                    del layer.module.__dict__["forward"]
                else:
                    layer.module.__dict__["forward"] = own


def _recording(layer: _Layer, records: list[_Record]) -> Callable[[Tensor], Tensor]:
    forward = layer.module.forward

    def recorded(activation: Tensor) -> Tensor:
        output = forward(activation)
        # The edge and not the output: an in-place activation may overwrite the latter.
        records.append(_Record(layer, activation, get_gradient_edge(output)))
        return output

    return recorded


class SignalGradients:
    """Products of one forward pass's gradients, from its activations and signals.

    Implements `skreweight.core.gradients.BatchGradients`; all products are exact.
    """

    exact_squares = True

    def __init__(
        self, model: Model, outputs: Tensor, targets: Any, loss: ExampleLoss, records: list[_Record]
    ) -> None:
        self.model = model
        self.outputs = outputs
        self.targets = targets
        self.loss = loss
        self._records = records
        self._edges = [r.edge for r in records]
        self._line = loss.along_one_direction(outputs, targets)
        if self._line is None:
            self._signals = self._backpropagated(self.losses, torch.ones_like(self.losses))
        else:
            self._signals = self._backpropagated(outputs, self._line.direction)

    @cached_property
    def losses(self) -> Tensor:
        """f_i(θ) with their graph, shape (B,)."""
        with torch.enable_grad():
            return self.loss(self.outputs, self.targets)

    def _slopes(self, weights: Tensor | None) -> Tensor | None:
        """What the signals are to be multiplied by, row by row, to be those of w_i f_i."""
        if self._line is None:
            return weights
        return self._line.slope if weights is None else weights * self._line.slope

    def _backpropagated(self, outputs: Tensor, cotangent: Tensor) -> list[Tensor | None]:
        return list(
            torch.autograd.grad(outputs, self._edges, cotangent, retain_graph=True, allow_unused=True)
        )

    @torch.no_grad()
    def weighted(self, weights: Tensor) -> list[Tensor]:
        """Return F w."""
        sums: list[Tensor | None] = [None] * len(self.model.parameters)
        slopes = self._slopes(weights)
        for record, delta in zip(self._records, self._signals, strict=True):
            if delta is None:
                continue
            layer = record.layer
            grads = layer.rule.gradient(layer.module, record.activation, delta, slopes)
            for name, k in layer.positions.items():
                past = sums[k]
                sums[k] = grads[name] if past is None else past + grads[name]
        return self._or_zeros(sums)

    @torch.no_grad()
    def project(self, direction: Parameters) -> Tensor:
        """Return Fᵀv."""
        total: Tensor | None = None
        for record, delta in zip(self._records, self._signals, strict=True):
            if delta is None:
                continue
            layer = record.layer
            moved = layer.rule.forward(layer.module, record.activation, layer.direction(direction))
            row = (moved * delta).sum(tuple(range(1, delta.dim())))
            total = row if total is None else total + row
        if total is None:
            return torch.zeros_like(self.losses.detach())
        slopes = self._slopes(None)
        return total if slopes is None else total * slopes

    @torch.no_grad()
    def squares(self, cotangents: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the weighted sum of squares."""
        sums: list[Tensor | None] = [None] * len(self.model.parameters)
        for cotangent in cotangents:
            with torch.enable_grad():
                signals = self._backpropagated(self.outputs, cotangent)
            for k, square in enumerate(self._squares_of(signals, weights)):
                if square is not None:
                    past = sums[k]
                    sums[k] = square if past is None else past + square
        return self._or_zeros(sums)

    @torch.no_grad()
    def gauss_newton(self, weights: Tensor) -> list[Tensor]:
        """Return the diagonal of Σ_i w_i J_iᵀ (∂²f_i/∂z²) J_i."""
        if self._line is not None:
            return self._or_zeros(self._squares_of(self._signals, weights * self._line.curvature))
        return self.squares(self.loss.hessian_factor(self.outputs, self.targets), weights)

    @torch.no_grad()
    def fisher(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_i w_i (∇f_i)²."""
        squared = weights if self._line is None else weights * self._line.slope.square()
        return self._or_zeros(self._squares_of(self._signals, squared))

    def _squares_of(self, signals: list[Tensor | None], weights: Tensor) -> list[Tensor | None]:
        """Σ_i w_i (∇f_i)² for signals of one cotangent a row."""
        uses: list[list[tuple[_Record, str, Tensor]]] = [[] for _ in self.model.parameters]
        for record, delta in zip(self._records, signals, strict=True):
            for name, k in record.layer.positions.items():
                if delta is not None:
                    uses[k].append((record, name, delta))
        closed: dict[int, Direction | None] = {}
        result: list[Tensor | None] = []
        for k, calls in enumerate(uses):
            square = None
            if len(calls) == 1:  # a parameter used twice has a sum for its gradient: it goes row by row
                record, name, delta = calls[0]
                if id(record) not in closed:
                    rule, module = record.layer.rule, record.layer.module
                    closed[id(record)] = rule.squares(module, record.activation, delta, weights)
                forms = closed[id(record)]
                square = None if forms is None else forms[name]
            if square is None and calls:
                square = _squares_by_row(calls, weights, rows_at_once(self.model.parameters[k]))
            result.append(square)
        return result

    def _or_zeros(self, sums: Sequence[Tensor | None]) -> list[Tensor]:
        return [
            torch.zeros_like(p) if s is None else s for s, p in zip(sums, self.model.parameters, strict=True)
        ]


def _squares_by_row(calls: list[tuple[_Record, str, Tensor]], weights: Tensor, at_once: int) -> Tensor:
    """Σ_i w_i (∇f_i)² of one parameter, a few rows' gradients at a time."""

    def row_gradient(activations: list[Tensor], deltas: list[Tensor]) -> Tensor:
        grads = [
            record.layer.rule.gradient(record.layer.module, a.unsqueeze(0), d.unsqueeze(0), None)[name]
            for (record, name, _), a, d in zip(calls, activations, deltas, strict=True)
        ]
        return torch.stack(grads).sum(0)

    total: Tensor | None = None
    for start in range(0, len(weights), at_once):
        rows = slice(start, start + at_once)
        activations = [record.activation.detach()[rows] for record, _, _ in calls]
        deltas = [delta[rows] for _, _, delta in calls]
        grads = torch.func.vmap(row_gradient)(activations, deltas)
        part = torch.tensordot(weights[rows], grads.square(), dims=1)
        total = part if total is None else total + part
    assert total is not None
    return total


def agrees(recorder: SignalRecorder, x: Any, targets: Any, loss: ExampleLoss) -> bool:
    """Whether the recorder's products equal those of one backward pass per row, on a few rows.

    Parameters
    ----------
    recorder : SignalRecorder
        Its model is in the mode in which it will be used.
    x, targets : batch
        A handful of rows: their gradients are formed one by one.
    loss : ExampleLoss

    Returns
    -------
    bool
        False as well where a layer is called in a way the rules do not know.
    """
    model = recorder.model
    with model.untouched():
        try:
            gradients = recorder(x, targets, loss)
            losses = gradients.losses
            n_rows = len(losses)
            weights = torch.linspace(-1.0, 2.0, n_rows, dtype=losses.dtype, device=losses.device)
            rows = [vector_jacobian(losses, model.parameters, e) for e in torch.diag(torch.ones_like(losses))]
            direction = [torch.randn_like(p) for p in model.parameters]
            slow_sum = [
                torch.tensordot(weights, torch.stack(per_row), 1) for per_row in zip(*rows, strict=True)
            ]
            slow_rows = torch.stack([inner(row, direction) for row in rows])
            fast_sum, fast_rows = gradients.weighted(weights), gradients.project(direction)
        except (IndexError, RuntimeError, TypeError, KeyError):
            return False
        return all(
            _close(fast, slow)
            for fast, slow in zip([*fast_sum, fast_rows], [*slow_sum, slow_rows], strict=True)
        )


def _close(fast: Tensor, slow: Tensor) -> bool:
    eps = torch.finfo(slow.dtype).eps
    # The second term is rounding of probabilities near 0 and 1, all that is left of a fitted row's gradient.
    return float((fast - slow).abs().max()) <= eps**0.5 * float(slow.abs().max()) + 100 * eps

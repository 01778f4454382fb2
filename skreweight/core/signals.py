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

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from skreweight.core.chain import Chain
from skreweight.core.example_loss import ExampleLoss, Line
from skreweight.core.gradients import vector_jacobian
from skreweight.core.layers import Direction, rows_at_once
from skreweight.core.model import Model, Parameters, inner
from skreweight.core.passes import GraphPass, Layer, Pass, layers_with_a_rule


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
        layers = layers_with_a_rule(model)
        covered = {k for layer in layers for k in layer.positions.values()}
        self.complete = len(covered) == len(model.parameters)
        self._chain = Chain.of(model)
        self._calls: list[tuple[Layer, Tensor]] = []
        self._edges: list[GradientEdge] = []
        self._replacements = [
            (
                layer.module.__dict__,
                layer.module.__dict__.get("forward"),
                _recording(layer, self._calls, self._edges),
            )
            for layer in layers
        ]

    def __call__(self, x: Any, targets: Any, loss: ExampleLoss) -> SignalGradients:
        """Run one forward pass and return the products of its gradients."""
        return SignalGradients.of(self.model, self._forward(x), targets, loss)

    def together(
        self,
        first: tuple[Tensor, Tensor, ExampleLoss],
        second: tuple[Tensor, Tensor, ExampleLoss],
    ) -> tuple[SignalGradients, SignalGradients]:
        """Run one forward and one backward pass for two batches and return the products of each.

        Parameters
        ----------
        first, second : tuple of (x, targets, loss)
            The rows must not depend on each other: evaluation mode.
        """
        n_first = len(first[1])
        whole = self._forward(torch.cat([first[0], second[0]]))
        batches = (first, second)
        outputs = whole.outputs.detach().tensor_split([n_first])
        lines = [loss.along_one_direction(z, y) for z, (_, y, loss) in zip(outputs, batches, strict=True)]
        cotangents = [
            _cotangent(z, y, loss, line)
            for z, (_, y, loss), line in zip(outputs, batches, lines, strict=True)
        ]
        signals = whole.backpropagated(torch.cat(cotangents))
        parts = [
            SignalGradients(
                self.model, whole.part(rows), y, loss, line, [None if d is None else d[rows] for d in signals]
            )
            for rows, (_, y, loss), line in zip(
                (slice(n_first), slice(n_first, None)), batches, lines, strict=True
            )
        ]
        return parts[0], parts[1]

    def _forward(self, x: Tensor) -> Pass:
        """Run the model while every call of a layer leaves a record.

        Where the module is no plain chain, each layer's ``forward`` is replaced for as long: a hook would stay on
        the user's module between passes and costs several times as much on a small layer.
        """
        if self._chain is not None and x.dim() == 2:
            return self._chain.forward(self.model.parameters, x)
        try:
            for attributes, _, recording in self._replacements:
                attributes["forward"] = recording
            return GraphPass(self.model(x), [*self._calls], [*self._edges])
        finally:
            self._calls.clear()
            self._edges.clear()
            for attributes, own, _ in self._replacements:
                if own is None:
                    attributes.pop("forward", None)
                else:
                    attributes["forward"] = own


def _recording(
    layer: Layer, calls: list[tuple[Layer, Tensor]], edges: list[GradientEdge]
) -> Callable[[Tensor], Tensor]:
    """Return the layer's ``forward`` that leaves a record; without a way back to the recorder, which holds it."""
    forward = layer.module.forward

    def recorded(activation: Tensor) -> Tensor:
        output = forward(activation)
        calls.append((layer, activation))
        # The edge and not the output: an in-place activation may overwrite the latter.
        edges.append(get_gradient_edge(output))
        return output

    return recorded


def _cotangent(outputs: Tensor, targets: Any, loss: ExampleLoss, line: Line | None) -> Tensor:
    """What the signals of a batch start from: ∂t/∂z where one direction is all, else ∂f/∂z."""
    return loss.output_gradient(outputs, targets) if line is None else line.direction


class SignalGradients:
    """Products of one forward pass's gradients, from its activations and signals.

    Implements `skreweight.core.gradients.BatchGradients`; all products are exact.
    """

    exact_squares = True

    def __init__(
        self,
        model: Model,
        recorded: Pass,
        targets: Any,
        loss: ExampleLoss,
        line: Line | None,
        signals: list[Tensor | None],
    ) -> None:
        self.model = model
        self.outputs = recorded.outputs
        self.targets = targets
        self.loss = loss
        self._pass = recorded
        self._calls = recorded.calls
        self._line = line
        self._signals = signals

    @staticmethod
    def of(model: Model, recorded: Pass, targets: Any, loss: ExampleLoss) -> SignalGradients:
        """Return the products of a recorded pass."""
        outputs = recorded.outputs.detach()
        line = loss.along_one_direction(outputs, targets)
        signals = recorded.backpropagated(_cotangent(outputs, targets, loss, line))
        return SignalGradients(model, recorded, targets, loss, line, signals)

    @cached_property
    def losses(self) -> Tensor:
        """f_i(θ), shape (B,)."""
        with torch.enable_grad():
            return self.loss(self.outputs, self.targets)

    def losses_with_graph(self) -> Tensor:
        """Return f_i(θ) with a graph that leads to the parameters, shape (B,)."""
        if self.outputs.requires_grad:
            return self.losses
        with torch.enable_grad():  # a chain builds none: its first call holds the rows
            return self.loss(self.model(self._calls[0][1]), self.targets)

    def _slopes(self, weights: Tensor | None) -> Tensor | None:
        """What the signals are to be multiplied by, row by row, to be those of w_i f_i."""
        if self._line is None:
            return weights
        return self._line.slope if weights is None else weights * self._line.slope

    @torch.no_grad()
    def weighted(self, weights: Tensor) -> list[Tensor]:
        """Return F w."""
        sums: list[Tensor | None] = [None] * len(self.model.parameters)
        slopes = self._slopes(weights)
        for (layer, activation), delta in zip(self._calls, self._signals, strict=True):
            if delta is None:
                continue
            grads = layer.rule.gradient(layer.module, activation, delta, slopes)
            for name, k in layer.positions.items():
                past = sums[k]
                sums[k] = grads[name] if past is None else past + grads[name]
        return self._or_zeros(sums)

    @torch.no_grad()
    def project(self, direction: Parameters) -> Tensor:
        """Return Fᵀv."""
        total: Tensor | None = None
        for (layer, activation), delta in zip(self._calls, self._signals, strict=True):
            if delta is None:
                continue
            moved = layer.rule.forward(layer.module, activation, layer.direction(direction))
            row = (moved * delta).sum(tuple(range(1, delta.dim())))
            total = row if total is None else total + row
        if total is None:
            return torch.zeros_like(self.losses.detach())
        slopes = self._slopes(None)
        return total if slopes is None else total * slopes

    @torch.no_grad()
    def squares(self, cotangents: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the weighted sum of squares."""
        return self._squares_of(self._pass.backpropagated_all(cotangents), weights)

    @torch.no_grad()
    def gauss_newton(self, weights: Tensor) -> list[Tensor]:
        """Return the diagonal of Σ_i w_i J_iᵀ (∂²f_i/∂z²) J_i."""
        if self._line is not None:
            return self._squares_of([self._signals], weights * self._line.curvature)
        return self.squares(self.loss.hessian_factor(self.outputs, self.targets), weights)

    @torch.no_grad()
    def fisher(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_i w_i (∇f_i)²."""
        squared = weights if self._line is None else weights * self._line.slope.square()
        return self._squares_of([self._signals], squared)

    def _squares_of(self, signals: list[list[Tensor | None]], weights: Tensor) -> list[Tensor]:
        """Σ_r Σ_i w_i (∇f_ri)² for the signals of losses f_r."""
        uses: list[list[tuple[int, str]]] = [[] for _ in self.model.parameters]
        for number, (layer, _) in enumerate(self._calls):
            for name, k in layer.positions.items():
                if signals[0][number] is not None:
                    uses[k].append((number, name))
        closed: dict[int, Direction | None] = {}
        result: list[Tensor | None] = []
        for k, calls in enumerate(uses):
            square = None
            if len(calls) == 1:  # a parameter used twice has a sum for its gradient: it goes row by row
                number, name = calls[0]
                if number not in closed:
                    closed[number] = self._closed_squares(number, signals, weights)
                forms = closed[number]
                square = None if forms is None else forms[name]
            if square is None and calls:
                square = self._squares_by_row(calls, signals, weights, rows_at_once(self.model.parameters[k]))
            result.append(square)
        return self._or_zeros(result)

    def _closed_squares(
        self, number: int, signals: list[list[Tensor | None]], weights: Tensor
    ) -> Direction | None:
        layer, activation = self._calls[number]
        squared: Tensor | None = None
        for of_one_loss in signals:
            delta = of_one_loss[number]
            assert delta is not None
            squared = delta.square() if squared is None else squared.addcmul_(delta, delta)
        assert squared is not None
        return layer.rule.squares(layer.module, activation, squared, weights)

    def _squares_by_row(
        self, calls: list[tuple[int, str]], signals: list[list[Tensor | None]], weights: Tensor, at_once: int
    ) -> Tensor:
        """Σ_r Σ_i w_i (∇f_ri)² of one parameter, a few rows' gradients at a time."""
        total: Tensor | None = None
        for of_one_loss in signals:
            named = [(*self._calls[number], name, of_one_loss[number]) for number, name in calls]
            part = _squares_by_row([(c, a, n, d) for c, a, n, d in named if d is not None], weights, at_once)
            total = part if total is None else total + part
        assert total is not None
        return total

    def _or_zeros(self, sums: Sequence[Tensor | None]) -> list[Tensor]:
        return [
            torch.zeros_like(p) if s is None else s for s, p in zip(sums, self.model.parameters, strict=True)
        ]


def _squares_by_row(calls: list[tuple[Layer, Tensor, str, Tensor]], weights: Tensor, at_once: int) -> Tensor:
    """Σ_i w_i (∇f_i)² of one parameter, a few rows' gradients at a time."""

    def row_gradient(activations: list[Tensor], deltas: list[Tensor]) -> Tensor:
        grads = [
            layer.rule.gradient(layer.module, a.unsqueeze(0), d.unsqueeze(0), None)[name]
            for (layer, _, name, _), a, d in zip(calls, activations, deltas, strict=True)
        ]
        return torch.stack(grads).sum(0)

    total: Tensor | None = None
    for start in range(0, len(weights), at_once):
        rows = slice(start, start + at_once)
        activations = [activation.detach()[rows] for _, activation, _, _ in calls]
        deltas = [delta[rows] for _, _, _, delta in calls]
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
            losses = gradients.losses_with_graph()
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

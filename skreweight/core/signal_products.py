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

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from skreweight.core.chain import Chain, ChainPass
from skreweight.core.example_loss import ExampleLoss, Line
from skreweight.core.graph_products import vector_jacobian
from skreweight.core.layer_watch import LayerWatch
from skreweight.core.layers import Direction, LayerRule, rows_at_once, rule_for
from skreweight.core.members import Parameters, inner
from skreweight.core.model import Model
from skreweight.core.passes import Call, Layer, Pass, layers_of
from skreweight.core.rows import joined


class SignalRecorder:
    """Turns a model's forward passes into `SignalProducts`, as a chain or by watching its layers.

    Parameters
    ----------
    model : Model
        Its mode decides which layers have a rule.

    Attributes
    ----------
    complete : bool
        Whether every trainable parameter belongs to a layer with a rule. Whether the products are right as
        well (a module may use a layer's weight behind its back, or mix rows) is for `agrees` to find out.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._chain = Chain.of(model)
        layers = [layer for layer in layers_of(model) if layer.positions]
        covered = {k for layer in layers for k in layer.positions.values()}
        self.complete = len(covered) == len(model.parameters)
        self._watch = LayerWatch(model, layers)

    def __call__(self, x: Any, targets: Tensor, loss: ExampleLoss) -> SignalProducts:
        """Run one forward pass and return the products of its gradients."""
        return SignalProducts.of(self.model, self._forward(x), targets, loss)

    def together(
        self,
        first: tuple[Tensor, Tensor, ExampleLoss],
        second: tuple[Tensor, Tensor, ExampleLoss],
    ) -> tuple[SignalProducts, SignalProducts]:
        """Run one forward and one backward pass for two batches and return the products of each.

        Parameters
        ----------
        first, second : tuple of (x, targets, loss)
            The rows must not depend on each other: evaluation mode.
        """
        lead = self.model.n_lead
        n_first = first[1].shape[-1]
        x_second, y_second, loss_second = second
        if y_second.dim() < first[1].dim():
            y_second = y_second.expand(*first[1].shape[:-1], -1)
        whole = self._forward(joined(first[0], x_second, lead))
        batches = (first, (x_second, y_second, loss_second))
        outputs = whole.outputs.detach().tensor_split([n_first], dim=lead)
        lines = [loss.along_one_direction(z, y) for z, (_, y, loss) in zip(outputs, batches, strict=True)]
        cotangents = [
            _cotangent(z, y, loss, line)
            for z, (_, y, loss), line in zip(outputs, batches, lines, strict=True)
        ]
        signals = whole.backpropagated(torch.cat(cotangents, dim=lead))
        members = (slice(None),) * lead
        parts = [
            SignalProducts(
                self.model,
                whole.part(rows),
                y,
                loss,
                line,
                [None if d is None else d[(*members, rows)] for d in signals],
            )
            for rows, (_, y, loss), line in zip(
                (slice(n_first), slice(n_first, None)), batches, lines, strict=True
            )
        ]
        return parts[0], parts[1]

    def _forward(self, x: Any) -> Pass:
        if self._chain is not None and x.dim() == self.model.n_lead + 2:
            return self._chain.forward(self.model.parameters, x)
        return self._watch(x)


def _cotangent(outputs: Tensor, targets: Tensor, loss: ExampleLoss, line: Line | None) -> Tensor:
    """What the signals of a batch start from: ∂t/∂z where one direction is all, else ∂f/∂z."""
    return loss.output_gradient(outputs, targets) if line is None else line.direction


class SignalProducts:
    """Products of one forward pass's gradients, from its activations and signals.

    Implements `skreweight.core.products.Products`; all products are exact.
    """

    exact_squares = True

    def __init__(
        self,
        model: Model,
        recorded: Pass,
        targets: Tensor,
        loss: ExampleLoss,
        line: Line | None,
        signals: list[Tensor | None] | None = None,
    ) -> None:
        self.model = model
        self.outputs = recorded.outputs
        self.targets = targets
        self.loss = loss
        self.recorded = recorded
        self._calls = recorded.calls
        self._line = line
        if signals is not None:
            self.signals = signals

    @staticmethod
    def of(model: Model, recorded: Pass, targets: Tensor, loss: ExampleLoss) -> SignalProducts:
        """Return the products of a recorded pass."""
        line = loss.along_one_direction(recorded.outputs.detach(), targets)
        return SignalProducts(model, recorded, targets, loss, line)

    @cached_property
    def signals(self) -> list[Tensor | None]:
        """The signal at each call, from one pass back that serves all products."""
        cotangent = _cotangent(self.outputs.detach(), self.targets, self.loss, self._line)
        return self.recorded.backpropagated(cotangent)

    @property
    def slopes(self) -> Tensor | None:
        """What a row's signals are to be multiplied by to be those of its loss, (*M, B); None: 1."""
        return None if self._line is None else self._line.slope

    def once(self, weights: Tensor) -> list[Tensor]:
        """Return F w where no other product is asked for: the weights go into what the signals start from."""
        if not isinstance(self.recorded, ChainPass):
            return self.weighted(weights)
        slopes = weights if self._line is None else weights * self._line.slope
        cotangent = _cotangent(self.outputs.detach(), self.targets, self.loss, self._line)
        return self._sums(self.recorded.backpropagated(cotangent * slopes.unsqueeze(-1)), None)

    @cached_property
    def losses(self) -> Tensor:
        """f_i(θ), shape (*M, B)."""
        with torch.enable_grad():
            return self.loss(self.outputs, self.targets)

    def losses_with_graph(self) -> Tensor:
        """Return f_i(θ) with a graph that leads to the parameters, shape (*M, B)."""
        if self.outputs.requires_grad:
            return self.losses
        with torch.enable_grad():
            return self.loss(self.recorded.outputs_with_graph(self.model.parameters), self.targets)

    def weighted(self, weights: Tensor) -> list[Tensor]:
        """Return F w."""
        return self._sums(self.signals, weights if self._line is None else weights * self._line.slope)

    @torch.no_grad()
    def _sums(self, signals: list[Tensor | None], slopes: Tensor | None) -> list[Tensor]:
        """Σ_i s_i δ_i a_iᵀ, layer by layer; no slopes: those of the signals themselves."""
        sums: list[Tensor | None] = [None] * len(self.model.parameters)
        for (layer, tensors, activation), delta in zip(self._calls, signals, strict=True):
            if delta is None:
                continue
            grads = layer.rule.gradient(layer.module, tensors, activation, delta, slopes)
            for name, k in layer.positions.items():
                past = sums[k]
                sums[k] = grads[name] if past is None else past + grads[name]
        return self._or_zeros(sums)

    @torch.no_grad()
    def project(self, direction: Parameters) -> Tensor:
        """Return Fᵀv."""
        total: Tensor | None = None
        for (layer, tensors, activation), delta in zip(self._calls, self.signals, strict=True):
            if delta is None:
                continue
            v, rule = layer.direction(direction), layer.rule
            if rule.project is not None:
                row = rule.project(layer.module, tensors, activation, delta, v)
            else:
                moved = rule.forward(layer.module, v, activation)
                row = (moved * delta).sum(tuple(range(self.targets.dim(), delta.dim())))
            total = row if total is None else total + row
        if total is None:
            return torch.zeros_like(self.losses.detach())
        return total if self._line is None else total * self._line.slope

    @torch.no_grad()
    def squares(self, cotangents: Tensor, weights: Tensor) -> list[Tensor]:
        """Return the weighted sum of squares."""
        return self._squares_of(self.recorded.backpropagated_all(cotangents), weights)

    @torch.no_grad()
    def gauss_newton(self, weights: Tensor) -> list[Tensor]:
        """Return the diagonal of Σ_i w_i J_iᵀ (∂²f_i/∂z²) J_i."""
        if self._line is not None:
            return self._squares_of([self.signals], weights * self._line.curvature)
        return self.squares(self.loss.hessian_factor(self.outputs, self.targets), weights)

    @torch.no_grad()
    def fisher(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_i w_i (∇f_i)²."""
        squared = weights if self._line is None else weights * self._line.slope.square()
        return self._squares_of([self.signals], squared)

    def _squares_of(self, signals: list[list[Tensor | None]], weights: Tensor) -> list[Tensor]:
        """Σ_r Σ_i w_i (∇f_ri)² for the signals of losses f_r."""
        uses: list[list[tuple[int, str]]] = [[] for _ in self.model.parameters]
        for number, (layer, _, _) in enumerate(self._calls):
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
        layer, tensors, activation = self._calls[number]
        if layer.rule.squares is None:
            return None
        squared: Tensor | None = None
        for of_one_loss in signals:
            delta = of_one_loss[number]
            assert delta is not None
            squared = delta.square() if squared is None else squared.addcmul_(delta, delta)
        assert squared is not None
        return layer.rule.squares(layer.module, tensors, activation, squared, weights)

    def _squares_by_row(
        self, calls: list[tuple[int, str]], signals: list[list[Tensor | None]], weights: Tensor, at_once: int
    ) -> Tensor:
        """Σ_r Σ_i w_i (∇f_ri)² of one parameter, a few rows' gradients at a time."""
        total: Tensor | None = None
        for of_one_loss in signals:
            named = [(self._calls[number], name, of_one_loss[number]) for number, name in calls]
            part = _squares_by_row([(c, n, d) for c, n, d in named if d is not None], weights, at_once)
            total = part if total is None else total + part
        assert total is not None
        return total

    def _or_zeros(self, sums: Sequence[Tensor | None]) -> list[Tensor]:
        return [
            torch.zeros_like(p) if s is None else s for s, p in zip(sums, self.model.parameters, strict=True)
        ]


def _squares_by_row(calls: list[tuple[Call, str, Tensor]], weights: Tensor, at_once: int) -> Tensor:
    """Σ_i w_i (∇f_i)² of one parameter, a few rows' gradients at a time."""
    layers = [(call.layer, _rule_of_one(call.layer), name) for call, name, _ in calls]
    n_lead = weights.dim() - 1

    def of_some_rows(
        tensors: list[Direction], activations: list[Tensor], deltas: list[Tensor], weights: Tensor
    ) -> Tensor:
        def row_gradient(activations: list[Tensor], deltas: list[Tensor]) -> Tensor:
            one = weights.new_ones(1)
            grads = [
                rule.gradient(layer.module, theta, a.unsqueeze(0), d.unsqueeze(0), one)[name]
                for (layer, rule, name), theta, a, d in zip(layers, tensors, activations, deltas, strict=True)
            ]
            return torch.stack(grads).sum(0)

        return torch.tensordot(weights, torch.func.vmap(row_gradient)(activations, deltas).square(), dims=1)

    of_rows = torch.func.vmap(of_some_rows) if n_lead else of_some_rows
    tensors = [call.tensors for call, _, _ in calls]
    total: Tensor | None = None
    for start in range(0, weights.shape[-1], at_once):
        rows = (slice(None),) * n_lead + (slice(start, start + at_once),)
        activations = [call.activation.detach()[rows] for call, _, _ in calls]
        part = of_rows(tensors, activations, [delta[rows] for _, _, delta in calls], weights[rows])
        total = part if total is None else total + part
    assert total is not None
    return total


def _rule_of_one(layer: Layer) -> LayerRule:
    rule = rule_for(layer.module)
    assert rule is not None
    return rule


def agrees(recorder: SignalRecorder, x: Any, targets: Tensor, loss: ExampleLoss) -> bool:
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
            products = recorder(x, targets, loss)
            losses = products.losses_with_graph()
            n_rows = losses.shape[-1]
            weights = torch.linspace(-1.0, 2.0, n_rows, dtype=losses.dtype, device=losses.device)
            # The networks of a pack do not meet, so that one backward pass serves row i of all of them.
            units = torch.diag(torch.ones_like(weights))
            rows = [vector_jacobian(losses, model.parameters, unit.expand(losses.shape)) for unit in units]
            direction = [torch.randn_like(p) for p in model.parameters]
            slow_sum = [
                torch.tensordot(weights, torch.stack(of_rows), 1) for of_rows in zip(*rows, strict=True)
            ]
            slow_rows = torch.cat([inner(row, direction, model.n_lead) for row in rows], dim=-1)
            fast_sum = products.weighted(weights.expand(losses.shape))
            fast_rows = products.project(direction)
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

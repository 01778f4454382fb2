"""Forward passes that remember what reached each layer, and how signals get back to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from skreweight.core.layers import Direction, LayerRule, at_once, rule_for
from skreweight.core.members import Parameters
from skreweight.core.model import Model

Signals = list[Tensor | None]


@dataclass(frozen=True)
class Layer:
    """A layer with a rule, where its trainable parameters stand in the model's list, and its other tensors."""

    module: nn.Module
    rule: LayerRule
    positions: dict[str, int]
    buffers: Direction = field(default_factory=dict)
    frozen: Direction = field(default_factory=dict)

    def tensors(self, parameters: Sequence[Tensor]) -> Direction:
        """Return the layer's tensors by its own names, the trainable ones out of a list."""
        return {**self.frozen, **self.direction(parameters)} if self.frozen else self.direction(parameters)

    def direction(self, vector: Sequence[Tensor]) -> Direction:
        """Return the layer's share of a vector shaped like the parameters, with its buffers."""
        mine = {name: vector[k] for name, k in self.positions.items()}
        return {**self.buffers, **mine} if self.buffers else mine


def layers_of(model: Model) -> list[Layer]:
    """Return the layers with a rule in the model's mode, those without trainable parameters included."""
    position = {name: k for k, name in enumerate(model.names)}
    names = {id(p): name for name, p in model.module.named_parameters()}
    state = model.state()
    found = []
    for prefix, module in model.module.named_modules():
        rule = rule_for(module)
        if rule is None:
            continue
        owned = {n: names[id(p)] for n, p in module._parameters.items() if p is not None}
        positions = {n: position[name] for n, name in owned.items() if name in position}
        frozen = {n: state[name] for n, name in owned.items() if name not in position}
        dot = f"{prefix}." if prefix else ""
        buffers = {n: model.buffers[f"{dot}{n}"] for n in module._buffers if f"{dot}{n}" in model.buffers}
        found.append(Layer(module, at_once(rule) if model.shape else rule, positions, buffers, frozen))
    return found


class Call(NamedTuple):
    """One call of a layer: the layer, its tensors at that time and its input."""

    layer: Layer
    tensors: Direction
    activation: Tensor


class Pass(Protocol):
    """A recorded forward pass.

    Attributes
    ----------
    outputs : torch.Tensor of shape (*M, B, C)
    calls : list of Call
        Each call of a layer that has trainable parameters.
    """

    outputs: Tensor
    calls: list[Call]

    def part(self, rows: slice) -> Pass:
        """Return the pass as it concerns some rows."""
        ...

    def outputs_with_graph(self, parameters: Parameters) -> Tensor:
        """Return the outputs with a graph that leads to the parameters the pass was run at."""
        ...

    def backpropagated(self, cotangent: Tensor) -> Signals:
        """Return the signal at each call's output for a cotangent of the outputs; None where none arrives."""
        ...

    def backpropagated_all(self, cotangents: Tensor) -> list[Signals]:
        """Return the signals for each of several cotangents, shape (R, *M, B, C)."""
        ...


class GraphPass:
    """A pass whose signals autograd finds, through whatever lies between the layers.

    Parameters
    ----------
    outputs : torch.Tensor of shape (*M, B, C)
    calls : list of Call
    edges : list of GradientEdge or torch.Tensor
        What the gradients at the calls' outputs are asked for.
    n_lead : int
        Number of leading axes.
    rows : slice or None, default=None
        The rows this part of a pass concerns.
    """

    def __init__(
        self,
        outputs: Tensor,
        calls: list[Call],
        edges: list[GradientEdge] | list[Tensor],
        n_lead: int,
        rows: slice | None = None,
    ) -> None:
        self.outputs = outputs
        self.calls = calls
        self._edges = edges
        self._n_lead = n_lead
        self._rows = (slice(None),) * n_lead + (slice(None) if rows is None else rows,)

    def part(self, rows: slice) -> GraphPass:
        """Return the pass as it concerns some rows."""
        here = (slice(None),) * self._n_lead + (rows,)
        calls = [call._replace(activation=call.activation[here]) for call in self.calls]
        return GraphPass(self.outputs[here], calls, self._edges, self._n_lead, rows)

    def outputs_with_graph(self, parameters: Parameters) -> Tensor:
        """Return the outputs, which have their graph."""
        return self.outputs

    def backpropagated(self, cotangent: Tensor) -> Signals:
        """Return the signal at each call's output for a cotangent of the outputs."""
        signals = torch.autograd.grad(
            self.outputs, self._edges, cotangent, retain_graph=True, allow_unused=True
        )
        return [None if d is None else d[self._rows] for d in signals]

    def backpropagated_all(self, cotangents: Tensor) -> list[Signals]:
        """Return the signals for several cotangents, in one batched pass where every operation allows it."""
        if len(cotangents) == 1:
            return [self.backpropagated(cotangents[0])]
        try:
            signals = torch.autograd.grad(
                self.outputs,
                self._edges,
                cotangents,
                retain_graph=True,
                allow_unused=True,
                is_grads_batched=True,
            )
        except RuntimeError:  # an operation without a batched derivative
            return [self.backpropagated(c) for c in cotangents]
        return [[None if d is None else d[r][self._rows] for d in signals] for r in range(len(cotangents))]

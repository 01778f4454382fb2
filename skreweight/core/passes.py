"""Forward passes that remember what reached each layer, and how signals get back to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from skreweight.core.layers import Direction, LayerRule, rule_for
from skreweight.core.model import Model

Signals = list[Tensor | None]


@dataclass(frozen=True)
class Layer:
    """A layer with a rule, and where its trainable parameters stand in the model's list."""

    module: nn.Module
    rule: LayerRule
    positions: dict[str, int]

    def direction(self, vector: Sequence[Tensor]) -> Direction:
        """Return the layer's share of a vector shaped like the parameters."""
        return {name: vector[k] for name, k in self.positions.items()}


def layers_with_a_rule(model: Model) -> list[Layer]:
    """Return the layers that have trainable parameters of their own and a rule in the model's present mode."""
    position = {id(p): k for k, p in enumerate(model.parameters)}
    found = []
    for module in model.module.modules():
        owned = {n: position[id(p)] for n, p in module._parameters.items() if id(p) in position}
        rule = rule_for(module) if owned else None
        if rule is not None:
            found.append(Layer(module, rule, owned))
    return found


class Pass(Protocol):
    """A recorded forward pass.

    Attributes
    ----------
    outputs : torch.Tensor of shape (B, C)
    calls : list of (Layer, torch.Tensor)
        Each call of a layer, with its input.
    """

    outputs: Tensor
    calls: list[tuple[Layer, Tensor]]

    def part(self, rows: slice) -> Pass:
        """Return the pass as it concerns some rows."""
        ...

    def backpropagated(self, cotangent: Tensor) -> Signals:
        """Return the signal at each call's output for a cotangent of the outputs; None where none arrives."""
        ...

    def backpropagated_all(self, cotangents: Tensor) -> list[Signals]:
        """Return the signals for each of several cotangents, shape (R, B, C)."""
        ...


class GraphPass:
    """A pass whose signals autograd finds, through whatever lies between the layers."""

    def __init__(
        self,
        outputs: Tensor,
        calls: list[tuple[Layer, Tensor]],
        edges: list[GradientEdge],
        rows: slice | None = None,
    ) -> None:
        self.outputs = outputs
        self.calls = calls
        self._edges = edges
        self._rows = slice(None) if rows is None else rows

    def part(self, rows: slice) -> GraphPass:
        """Return the pass as it concerns some rows."""
        calls = [(layer, activation[rows]) for layer, activation in self.calls]
        return GraphPass(self.outputs[rows], calls, self._edges, rows)

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

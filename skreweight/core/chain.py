"""Plain chains of linear layers and elementwise functions, forward and backward without autograd.

For the small networks of tables autograd's bookkeeping takes longer than the arithmetic: a backward pass through
three layers costs several times the matrix products in it. In a chain the signals are

    δ_l = (δ_{l+1} W_{l+1}) ∘ φ'(z_l),

two operations a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skreweight.core.model import Model, Parameters
from skreweight.core.passes import Layer, Signals, layers_with_a_rule

_aten = torch.ops.aten


@dataclass(frozen=True)
class _Function:
    """An elementwise function: ``backward(gradient, input, output)``."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]


def _function_of(module: nn.Module) -> _Function | None:
    """The elementwise function that a module is, if it is one that is known here."""
    if isinstance(module, nn.LeakyReLU):
        slope = module.negative_slope
        return _Function(
            lambda z: F.leaky_relu(z, slope), lambda g, z, out: _aten.leaky_relu_backward(g, z, slope, False)
        )
    if isinstance(module, nn.GELU):
        kind = module.approximate
        return _Function(
            lambda z: F.gelu(z, approximate=kind),
            lambda g, z, out: _aten.gelu_backward(g, z, approximate=kind),
        )
    return _FUNCTIONS.get(type(module))


_FUNCTIONS: dict[type[nn.Module], _Function] = {
    nn.ReLU: _Function(torch.relu, lambda g, z, out: _aten.threshold_backward(g, out, 0)),
    nn.Tanh: _Function(torch.tanh, lambda g, z, out: _aten.tanh_backward(g, out)),
    nn.Sigmoid: _Function(torch.sigmoid, lambda g, z, out: _aten.sigmoid_backward(g, out)),
    nn.SiLU: _Function(F.silu, lambda g, z, out: _aten.silu_backward(g, z)),
}


class Chain:
    """A module that is a sequence of linear layers and elementwise functions.

    Parameters
    ----------
    links : list of Layer or _Function
        In the order of the forward pass; the first link is a layer.
    """

    def __init__(self, links: Sequence[Layer | _Function]) -> None:
        self._links = list(links)

    @staticmethod
    def of(model: Model) -> Chain | None:
        """Return the model's module as a chain in its present mode, or None where it is none.

        A module is taken apart if it is an ``nn.Sequential``, or has a method ``sequential`` that returns the
        layers whose composition its own ``forward`` is. Compilation, hooks, dropout in training mode, tied
        weights and every module that is not known make it none.
        """
        modules = None if model.is_compiled else _flattened(model.module)
        if modules is None or any(_is_hooked(m) for m in model.module.modules()):
            return None
        layers = {id(layer.module): layer for layer in layers_with_a_rule(model)}
        links: list[Layer | _Function] = []
        for module in modules:
            if type(module) is nn.Linear:
                layer = layers.pop(id(module), None)
                if layer is None or set(layer.positions) != set(_own_parameters(module)):
                    return None  # frozen in part, or used twice
                links.append(layer)
            elif isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and not module.training):
                continue
            elif (function := _function_of(module)) is not None and links:
                links.append(function)
            else:
                return None
        used = [k for link in links if isinstance(link, Layer) for k in link.positions.values()]
        return Chain(links) if sorted(used) == list(range(len(model.parameters))) else None

    def forward(self, parameters: Parameters, x: Tensor) -> ChainPass:
        """Run the chain at these parameters; `x` has shape (B, features)."""
        with torch.no_grad():
            inputs = []
            for link in self._links:
                inputs.append(x)
                if isinstance(link, Layer):
                    x = link.rule.forward(link.module, x, link.direction(parameters))
                else:
                    x = link.forward(x)
        weights = [
            parameters[link.positions["weight"]].detach() if isinstance(link, Layer) else None
            for link in self._links
        ]
        return ChainPass(self._links, weights, [*inputs, x])


class ChainPass:
    """A forward pass of a chain; implements `skreweight.core.passes.Pass`."""

    def __init__(
        self, links: list[Layer | _Function], weights: list[Tensor | None], values: list[Tensor]
    ) -> None:
        self.outputs = values[-1]
        self.calls = [(a, b) for a, b in zip(links, values, strict=False) if isinstance(a, Layer)]
        self._links, self._weights, self._values = links, weights, values

    def part(self, rows: slice) -> ChainPass:
        """Return the pass as it concerns some rows."""
        return ChainPass(self._links, self._weights, [value[rows] for value in self._values])

    @torch.no_grad()
    def backpropagated(self, cotangent: Tensor) -> Signals:
        """Return the signal at each layer's output for a cotangent of the outputs."""
        signals: Signals = []
        gradient = cotangent
        for position in range(len(self._links) - 1, -1, -1):
            link, weight = self._links[position], self._weights[position]
            if isinstance(link, Layer):
                signals.append(gradient)
                if position > 0:
                    assert weight is not None
                    gradient = torch.mm(gradient, weight)
            else:
                gradient = link.backward(gradient, self._values[position], self._values[position + 1])
        return signals[::-1]

    def backpropagated_all(self, cotangents: Tensor) -> list[Signals]:
        """Return the signals for each of several cotangents."""
        return [self.backpropagated(cotangent) for cotangent in cotangents]


def _flattened(module: nn.Module) -> list[nn.Module] | None:
    """The modules of a sequence, nested ones taken apart."""
    kind = type(module)
    if _definer(kind, "forward") is nn.Sequential and isinstance(module, nn.Sequential):
        flat: list[nn.Module] = []
        for child in module:
            inner = _flattened(child) if isinstance(child, nn.Sequential) else [child]
            if inner is None:
                return None
            flat += inner
        return flat
    definer = _definer(kind, "sequential")
    if definer is not None and definer is _definer(kind, "forward"):
        sequential = cast(Callable[[], nn.Module], module.sequential)
        return _flattened(sequential())
    return None


def _definer(kind: type[Any], name: str) -> type[Any] | None:
    return next((base for base in kind.__mro__ if name in vars(base)), None)


def _is_hooked(module: nn.Module) -> bool:
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or "forward" in module.__dict__


def _own_parameters(module: nn.Module) -> list[str]:
    return [name for name, p in module._parameters.items() if p is not None]

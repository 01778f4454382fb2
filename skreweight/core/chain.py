"""Plain chains of layers with a rule and elementwise functions, forward and backward without autograd.

For the small networks of tables autograd's bookkeeping takes longer than the arithmetic: a backward pass through
three layers costs several times the matrix products in it. In a chain the signals are

    δ_l = (δ_{l+1} W_{l+1}) ∘ φ'(z_l),

two operations a layer, for one network and for K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from skreweight.core.elementwise import Function, function_of
from skreweight.core.members import Parameters
from skreweight.core.model import Model
from skreweight.core.passes import Call, Layer, Signals, layers_of
from skreweight.core.random_state import Draws


@dataclass(frozen=True)
class Dropout:
    """Dropout in training mode: a mask for every member, drawn in each pass."""

    probability: float
    draws: Draws

    def mask(self, like: Tensor) -> Tensor:
        """Return 0 for what is dropped and 1/(1 − p) for what stays, drawn as torch does it."""
        kept = 1.0 - self.probability
        return self.draws.kept(like, kept).div_(kept) if kept else torch.zeros_like(like)


Link = Layer | Function | Dropout


class Chain:
    """A module that is a sequence of layers with a rule, elementwise functions and dropout.

    Parameters
    ----------
    links : list of Layer, Function or Dropout
        In the order of the forward pass.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = list(links)
        trained = [bool(link.positions) if isinstance(link, Layer) else False for link in self.links]
        self._first = trained.index(True)

    @staticmethod
    def of(model: Model) -> Chain | None:
        """Return the model's module as a chain in its mode, or None where it is none.

        A module is taken apart if it is an ``nn.Sequential``, or has a method ``sequential`` that returns the
        layers whose composition its own ``forward`` is. Compilation, hooks, tied weights, layers frozen in part
        and every module that is not known make it none.
        """
        modules = None if model.is_compiled else _flattened(model.module)
        if modules is None or any(_is_hooked(m) for m in model.module.modules()):
            return None
        layers = {id(layer.module): layer for layer in layers_of(model) if layer.rule.members}
        links: list[Link] = []
        signals_pass = False  # whether a layer further down needs the signal at this one's input
        for module in modules:
            if isinstance(module, nn.Identity):
                continue
            if isinstance(module, nn.Dropout):
                if module.training and module.p > 0:
                    if not links:
                        return None
                    links.append(Dropout(module.p, model.draws))
            elif (layer := layers.pop(id(module), None)) is not None:
                if set(layer.positions) != set(_own_parameters(module)):
                    return None  # frozen
                if signals_pass and layer.rule.backward is None:
                    return None
                signals_pass = signals_pass or bool(layer.positions)
                links.append(layer)
            elif (function := function_of(module)) is not None and links:
                links.append(function)
            else:
                return None
        used = [k for link in links if isinstance(link, Layer) for k in link.positions.values()]
        return Chain(links) if sorted(used) == list(range(len(model.parameters))) else None

    @torch.no_grad()
    def forward(self, parameters: Parameters, x: Tensor) -> ChainPass:
        """Run the chain at these parameters; `x` has shape (*M, B, features), or (B, features) for all members."""
        values, kept = [x], []
        for link in self.links:
            if isinstance(link, Layer):
                memory: Any = link.tensors(parameters)
                x = link.rule.forward(link.module, memory, x)
            elif isinstance(link, Function):
                memory, x = None, link.forward(x)
            else:
                memory = link.mask(x)
                x = x * memory
            values.append(x)
            kept.append(memory)
        return ChainPass(self.links, self._first, kept, values)


class ChainPass:
    """A forward pass of a chain; implements `skreweight.core.passes.Pass`."""

    def __init__(self, links: list[Link], first: int, kept: list[Any], values: list[Tensor]) -> None:
        self.outputs = values[-1]
        self._links, self._first, self._kept, self._values = links, first, kept, values
        self.calls = [
            Call(link, tensors, a)
            for link, tensors, a in zip(links, kept, values, strict=False)
            if isinstance(link, Layer) and link.positions
        ]

    def part(self, rows: slice) -> ChainPass:
        """Return the pass as it concerns some rows, in evaluation mode."""
        return ChainPass(self._links, self._first, self._kept, [v[..., rows, :] for v in self._values])

    def outputs_with_graph(self, parameters: Parameters) -> Tensor:
        """Return the outputs of the same pass, masks included, with a graph that leads to the parameters."""
        x = self._values[0]
        with torch.enable_grad():
            for link, memory in zip(self._links, self._kept, strict=True):
                if isinstance(link, Layer):
                    x = link.rule.forward(link.module, link.tensors(parameters), x)
                else:
                    x = link.forward(x) if isinstance(link, Function) else x * memory
        return x

    @torch.no_grad()
    def backpropagated(self, cotangent: Tensor) -> Signals:
        """Return the signal at each layer's output for a cotangent of the outputs."""
        signals: Signals = []
        gradient = cotangent
        values, kept = self._values, self._kept
        for position in range(len(self._links) - 1, self._first - 1, -1):
            link = self._links[position]
            if isinstance(link, Layer):
                if link.positions:
                    signals.append(gradient)
                if position > self._first:
                    assert link.rule.backward is not None
                    gradient = link.rule.backward(link.module, kept[position], values[position], gradient)
            elif isinstance(link, Function):
                gradient = link.backward(gradient, values[position], values[position + 1])
            else:
                gradient = gradient * kept[position]
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

"""Forward passes of any module during which every call of a layer with a rule leaves a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from skreweight.core.model import Model
from skreweight.core.passes import Call, GraphPass, Layer


class LayerWatch:
    """Runs a model while its layers' ``forward`` is replaced by one that notes what it is given.

    A hook would stay on the user's module between passes and costs several times as much on a small layer.

    Parameters
    ----------
    model : Model
    layers : sequence of Layer
    """

    def __init__(self, model: Model, layers: Sequence[Layer]) -> None:
        self.model = model
        self._layers = layers
        self._shapes: dict[tuple[torch.Size, ...], list[torch.Size]] = {}

    def __call__(self, x: Any) -> GraphPass:
        """Run the model at its own parameters."""
        return self._at_once(x) if self.model.shape else self._of_one(x)

    def _of_one(self, x: Any) -> GraphPass:
        calls: list[Call] = []
        edges: list[GradientEdge] = []

        def note(layer: Layer, activation: Tensor, output: Tensor) -> Tensor:
            calls.append(Call(layer, layer.tensors(self.model.parameters), activation))
            # The edge and not the output: an in-place activation may overwrite the latter.
            edges.append(get_gradient_edge(output))
            return output

        with self._noting(note):
            return GraphPass(self.model(x), calls, edges, 0)

    def _at_once(self, x: Any) -> GraphPass:
        """K networks: activations come out of `torch.func.vmap` as results, signals as gradients at added zeros."""
        called: list[Layer] = []
        shapes: list[torch.Size] = []

        def run(probes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            def watched(forward: Callable[[Any], Tensor]) -> Callable[..., tuple[Tensor, list[Tensor]]]:
                def one(x: Any, zeros: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
                    called.clear()
                    shapes.clear()
                    activations: list[Tensor] = []

                    def note(layer: Layer, activation: Tensor, output: Tensor) -> Tensor:
                        activations.append(activation)
                        called.append(layer)
                        shapes.append(output.shape)
                        return output + zeros[len(called) - 1] if zeros else output

                    with self._noting(note):
                        return forward(x), activations

                return one

            return self.model.each(watched, x, probes)

        key = tuple(t.shape for t in ([x] if isinstance(x, Tensor) else x.values()))
        if key not in self._shapes:
            with self.model.untouched(), torch.no_grad():
                run([])
            self._shapes[key] = list(shapes)
        like = self.model.parameters[0]
        probes = [like.new_zeros(*self.model.shape, *shape).requires_grad_() for shape in self._shapes[key]]
        outputs, activations = run(probes)
        calls = [
            Call(layer, layer.tensors(self.model.parameters), a)
            for layer, a in zip(called, activations, strict=True)
        ]
        return GraphPass(outputs, calls, probes, self.model.n_lead)

    @contextmanager
    def _noting(self, note: Callable[[Layer, Tensor, Tensor], Tensor]) -> Iterator[None]:
        """Context in which each call of a layer is noted, and returns what `note` makes of its output."""
        replaced = [(layer, layer.module.__dict__.get("forward")) for layer in self._layers]
        try:
            for layer in self._layers:
                layer.module.__dict__["forward"] = _noted(layer, layer.module.forward, note)
            yield
        finally:
            for layer, own in replaced:
                if own is None:
                    layer.module.__dict__.pop("forward", None)
                else:
                    layer.module.__dict__["forward"] = own


def _noted(
    layer: Layer, forward: Callable[[Tensor], Tensor], note: Callable[[Layer, Tensor, Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    return lambda activation: note(layer, activation, forward(activation))

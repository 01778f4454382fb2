"""The layer that makes a module's logits, found by what it computes and not by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class OutputLayer:
    """A module's last layer with parameters.

    Attributes
    ----------
    name : str
        As ``named_modules`` has it; empty where the module is this layer.
    features : torch.Tensor of shape (n, ...)
        What it was given for the rows that were looked at.
    is_affine : bool
        Whether the module's output is W a + b of that input a, with its parameters ``weight`` and ``bias``.
    n_outputs : int
        Outputs of the module for each row.
    """

    name: str
    features: Tensor
    is_affine: bool
    n_outputs: int

    def owns(self, parameter: str) -> bool:
        """Whether a parameter, by name, is the layer's."""
        return not self.name or parameter.startswith(f"{self.name}.")


class FeatureModule(nn.Module):
    """A module up to the layer that makes its logits.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    name : str
        As `output_layer` takes it.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, *x: Tensor, **named: Tensor) -> Tensor:
        """Return the features of the rows of a tensor, or of a mapping's tensors."""
        return output_layer(self.module, x[0] if x else named, self.name).features


@torch.no_grad()
def output_layer(module: nn.Module, x: Any, name: str = "auto") -> OutputLayer:
    """Return the layer whose output is the module's, or the one of that name.

    It is the last submodule called that has a weight of two or more dimensions and whose output is the module's
    (first) output, up to shape, if it was called once.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    x : torch.Tensor of shape (n, ...), or mapping of such
        A few rows.
    name : str, default="auto"
        A name wins over the search; the layer must still be called once.

    Raises
    ------
    ValueError
        Where there is no such layer; the layers that were seen are named.
    """
    layers = {n: m for n, m in module.named_modules() if _has_weights(m)}
    if name != "auto":
        layers = {n: m for n, m in module.named_modules() if n == name}
        if not layers:
            known = ", ".join(repr(n) for n, _ in module.named_modules() if n)
            raise ValueError(f"classifier={name!r} is no part of the module (there are: {known}).")
    calls: list[tuple[str, tuple[Any, ...], Any]] = []
    hooks = [
        m.register_forward_hook(lambda _, given, made, n=n: calls.append((n, given, made)))
        for n, m in layers.items()
    ]
    try:
        try:
            outputs = module(**x) if isinstance(x, Mapping) else module(x)
        except RuntimeError as error:
            raise ValueError(
                f"The module cannot take the rows of X ({str(error).splitlines()[0]}): give it as many inputs as X has "
                "columns, in its shape."
            ) from error
    finally:
        for hook in hooks:
            hook.remove()
    outputs = outputs[0] if isinstance(outputs, tuple | list) else outputs
    seen = [n for n, _, _ in calls]
    fitting = [call for call in calls if name != "auto" or _equal(call[2], outputs)]
    if not fitting:
        raise ValueError(
            _refusal(f"something follows {seen[-1]!r}" if seen else "none is called", seen, name)
        )
    found, given, _ = fitting[-1]
    if seen.count(found) > 1:
        raise ValueError(_refusal(f"{found!r} is called {seen.count(found)} times", seen, name))
    n_outputs = outputs.numel() // len(outputs)
    return OutputLayer(found, given[0], _is_affine(layers[found], given[0], outputs), n_outputs)


def _refusal(reason: str, seen: list[str], name: str) -> str:
    layers = ", ".join(dict.fromkeys(map(repr, seen))) or "none"
    if name != "auto":
        return f"classifier={name!r} cannot be used: {reason} when the module runs (layers called: {layers})."
    return (
        f"The layer that makes the logits was not found: {reason} (layers called: {layers}). Name it by the parameter "
        "classifier, or let the module end with it."
    )


def _has_weights(module: nn.Module) -> bool:
    if any(name != "parametrizations" for name, _ in module.named_children()):
        return False
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dim() >= 2


def _equal(made: Any, outputs: Tensor) -> bool:
    return (
        isinstance(made, Tensor)
        and made.numel() == outputs.numel()
        and torch.equal(made.reshape(-1), outputs.reshape(-1))
    )


def _is_affine(layer: nn.Module, a: Tensor, outputs: Tensor) -> bool:
    weight, bias = layer._parameters.get("weight"), getattr(layer, "bias", None)
    if weight is None or weight.dim() != 2 or a.shape[-1] != weight.shape[1]:
        return False
    if weight.numel() // weight.shape[1] * a.shape[:-1].numel() != outputs.numel():
        return False
    return torch.allclose(F.linear(a, weight, bias).reshape(-1), outputs.reshape(-1), rtol=1e-4, atol=1e-6)

"""How the layers for tables turn activations and signals into gradients, for one network or K stacked.

See `skreweight.core.layers.LayerRule`; with them a network for tables is a chain, which trains without autograd.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from skreweight.core.layers import Direction, LayerRule, affine, outer_sum, product, scaled_rows


def _fan_in_factor(theta: Direction) -> float:
    return 1.0 / math.sqrt(theta["weight"].shape[-1])


def _ntp_gradient(
    layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None
) -> Direction:
    scaled = scaled_rows(delta, w)
    return {"weight": outer_sum(scaled, a) * _fan_in_factor(theta), "bias": scaled.sum(-2)}


def _ntp_forward(layer: nn.Module, theta: Direction, a: Tensor) -> Tensor:
    return affine(a, theta["weight"], theta["bias"], alpha=_fan_in_factor(theta))


def _ntp_squares(layer: nn.Module, theta: Direction, a: Tensor, squared: Tensor, w: Tensor) -> Direction:
    scaled = scaled_rows(squared, w)
    return {"weight": outer_sum(scaled, a.square()) * _fan_in_factor(theta) ** 2, "bias": scaled.sum(-2)}


def _ntp_backward(layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor) -> Tensor:
    return product(delta, theta["weight"]) * _fan_in_factor(theta)


def _scale_gradient(
    layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None
) -> Direction:
    return {"scale": (scaled_rows(delta, w) * a).sum(-2)}


def _scale_squares(layer: nn.Module, theta: Direction, a: Tensor, squared: Tensor, w: Tensor) -> Direction:
    return {"scale": (scaled_rows(squared, w) * a.square()).sum(-2)}


def _scale_forward(layer: nn.Module, theta: Direction, a: Tensor) -> Tensor:
    return a * theta["scale"].unsqueeze(-2)


def _scale_backward(layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor) -> Tensor:
    return delta * theta["scale"].unsqueeze(-2)


class _Embedded:
    """One pass of a periodic embedding: a column's cosines, and what reaches their angles."""

    def __init__(self, theta: Direction, a: Tensor, delta: Tensor) -> None:
        n_columns, size, _ = theta["weight"].shape[-3:]
        self.numbers = a[..., :n_columns].mT.unsqueeze(-1)  # (*M, n, B, 1)
        frequency, phase = theta["frequency"].unsqueeze(-2), theta["phase"].unsqueeze(-2)
        angles = torch.addcmul(phase, self.numbers, 2 * math.pi * frequency)  # (*M, n, B, k)
        self.cosines = angles.cos()
        # The signals of the added columns, (*M, n, B, s).
        self.delta = delta[..., a.shape[-1] :].unflatten(-1, (n_columns, size)).transpose(-3, -2)
        self.of_angles = (self.delta @ theta["weight"]) * -angles.sin()  # (*M, n, B, k)


def _embedding_forward(layer: nn.Module, theta: Direction, a: Tensor) -> Tensor:
    tensors: Tensor = torch.func.functional_call(layer, theta, (a,))
    return tensors


def _embedding_gradient(
    layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None
) -> Direction:
    found = _Embedded(theta, a, scaled_rows(delta, w))
    return {
        "frequency": (found.of_angles * found.numbers).sum(-2) * (2 * math.pi),
        "phase": found.of_angles.sum(-2),
        "weight": found.delta.mT @ found.cosines,
        "bias": found.delta.sum(-2),
    }


def _embedding_project(layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, v: Direction) -> Tensor:
    found = _Embedded(theta, a, delta)
    moved = found.cosines @ v["weight"].mT + v["bias"].unsqueeze(-2)
    angles = v["phase"].unsqueeze(-2) + 2 * math.pi * found.numbers * v["frequency"].unsqueeze(-2)
    by_column = (moved * found.delta).sum(-1) + (angles * found.of_angles).sum(-1)  # (*M, n, B)
    return by_column.sum(-2)


def _scaling_forward(layer: nn.Module, theta: Direction, a: Tensor) -> Tensor:
    scaled: Tensor = cast(Any, layer).scaled(a, theta["median"], theta["scale"])
    return scaled


def _no_gradient(layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None) -> Direction:
    return {}


NTP_LINEAR = LayerRule(
    _ntp_gradient, _ntp_forward, squares=_ntp_squares, backward=_ntp_backward, members=True
)
INPUT_SCALE = LayerRule(
    _scale_gradient, _scale_forward, squares=_scale_squares, backward=_scale_backward, members=True
)
PERIODIC_EMBEDDING = LayerRule(
    _embedding_gradient, _embedding_forward, project=_embedding_project, members=True
)
ROBUST_SCALING = LayerRule(_no_gradient, _scaling_forward, members=True)

"""Arithmetic on vectors shaped like the parameters of one network or of K, one figure a member."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Parameters = Sequence[Tensor]


def over(figure: Tensor, parameter: Tensor) -> Tensor:
    """Return one figure a member, (*M, 1), in a shape that broadcasts over a parameter (*M, ...)."""
    n_lead = figure.dim() - 1
    return figure.view([*figure.shape[:-1], *[1] * (parameter.dim() - n_lead)])


def each(value: Tensor | float, parameter: Tensor) -> Tensor | float:
    """Return a number, or one a member, such that it multiplies a parameter (*M, ...)."""
    return over(value, parameter) if isinstance(value, Tensor) else value


def inner(first: Parameters, second: Parameters, n_lead: int) -> Tensor:
    """Return the inner product of two vectors shaped like the parameters, (*M, 1)."""
    parts = [(a * b).flatten(n_lead).sum(-1, keepdim=True) if a.dim() > n_lead else (a * b).unsqueeze(-1)
             for a, b in zip(first, second, strict=True)]  # fmt: skip
    return torch.stack(parts).sum(0)


def chosen(flag: Tensor, first: Parameters, second: Parameters) -> list[Tensor]:
    """Return the first vector for members whose flag (*M, 1) is set, the second for all others."""
    return [torch.where(over(flag, a), a, b) for a, b in zip(first, second, strict=True)]

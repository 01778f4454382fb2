"""Rows of features by their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def take_rows(x: Any, rows: Tensor) -> Any:
    """Return some rows of a tensor, or of every tensor of a mapping.

    Parameters
    ----------
    x : torch.Tensor of shape (N, ...), or mapping of such
    rows : torch.Tensor of shape (*M, B), int64
        Members index one x, which is never copied for each of them.

    Returns
    -------
    torch.Tensor of shape (*M, B, ...), or dict of such
    """
    if isinstance(x, Tensor):
        taken = x.index_select(0, rows.flatten()) if rows.dim() > 1 else x.index_select(0, rows)
        return taken.view(*rows.shape, *x.shape[1:]) if rows.dim() > 1 else taken
    return {name: take_rows(value, rows) for name, value in x.items()}


def parts(x: Any, targets: Tensor, size: int) -> Iterator[tuple[Any, Tensor]]:
    """Yield rows and their targets, (*M, n, ...) and (*M, n), at most `size` at a time."""
    if targets.shape[-1] <= size:
        yield x, targets
        return
    axis = targets.dim() - 1
    for start in range(0, targets.shape[-1], size):
        rows = (*[slice(None)] * axis, slice(start, start + size))
        yield x[rows] if isinstance(x, Tensor) else {k: v[rows] for k, v in x.items()}, targets[rows]


def joined(first: Any, second: Any, n_lead: int) -> Tensor:
    """Return the rows of two batches one after the other, those of the second shared by all members if need be."""
    if second.dim() < first.dim():
        second = second.expand(*first.shape[:n_lead], *second.shape)
    return torch.cat([first, second], dim=n_lead)

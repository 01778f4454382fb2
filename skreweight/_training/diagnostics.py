"""Figures of an epoch: numbers on the host, read once at its end."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skreweight._rows.place import Rows
from skreweight.core.rows import take_rows
from skreweight.weighting import Weighting

#: A number, or one for each member.
Figure = float | list[float]


def figure(value: Tensor) -> Figure:
    """Return a scalar as a float, what stands for K members as a list of K."""
    return value.item() if value.numel() == 1 else value.flatten().tolist()


def summarised(
    noted: dict[str, list[Tensor]],
    weighting: Weighting,
    rows: Rows,
    last_weights: Tensor | None,
    labels: NDArray[Any],
) -> dict[str, Figure]:
    """Return the epoch's diagnostics by name.

    Means over the epoch of what the steps noted (``constraint_step_size``, ``validation_loss_before`` and
    ``validation_loss_after`` the constraint steps), and of the rows' weights: ``effective_rows_<class>``,
    (Σw)²/Σw² over the training rows of a class, and ``at_floor``, the share of stored weights at their floor.

    Parameters
    ----------
    noted : dict of str to list of torch.Tensor
    weighting : Weighting
        Its stored weights count, where it has any.
    rows : Rows
    last_weights : torch.Tensor of shape (*M, N) or None
        Counts where none are stored.
    labels : ndarray of shape (C,)
    """
    result = {name: figure(torch.stack(values).mean(0)) for name, values in noted.items()}
    stored = weighting.stored_weights
    weights = last_weights if stored is None else stored
    if weights is None:
        return result
    targets = rows.targets
    if rows.train is not None:
        weights = weights.gather(-1, rows.train.expand(*weights.shape[:-1], -1))
        targets = take_rows(targets, rows.train)
    finite = weights.isfinite()
    weights, targets = torch.where(finite, weights, 0.0), targets.expand_as(weights)
    sums = weights.new_zeros(*weights.shape[:-1], len(labels)).scatter_add_(-1, targets, weights)
    squares = torch.zeros_like(sums).scatter_add_(-1, targets, weights.square())
    effective = (sums.square() / squares).nan_to_num(0.0).unbind(-1)
    result |= {f"effective_rows_{k}": figure(v) for k, v in zip(labels, effective, strict=True)}
    floor = getattr(weighting, "floor", None)
    if stored is not None and floor is not None:
        at_floor = (finite & (weights <= floor)).sum(-1) / finite.sum(-1)
        result["at_floor"] = figure(at_floor)
    return result

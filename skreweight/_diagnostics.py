"""What ``diagnostics=True`` adds to the history, read from the device once an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from skreweight._rows import FitRows

if TYPE_CHECKING:
    from skreweight._classifier import ReweightedClassifier


def summarised(
    noted: dict[str, list[Tensor]], net: ReweightedClassifier, rows: FitRows, last_weights: Tensor | None
) -> dict[str, float]:
    """Return the epoch's diagnostics by name.

    Means over the epoch of what the steps noted (``constraint_step_size``, ``validation_loss_before`` and
    ``validation_loss_after`` the constraint steps), and of the rows' weights: ``effective_rows_<class>``,
    (Σw)²/Σw² over the training rows of a class, and ``at_floor``, the share of stored weights at their floor.
    """
    result = {name: float(torch.stack(values).mean()) for name, values in noted.items()}
    weights = net.weighting_.stored_weights
    stored = weights is not None
    if weights is None:
        weights = last_weights
    if weights is None:
        return result
    targets = rows.targets
    if rows.train is not None:
        weights, targets = weights[rows.train], targets[rows.train]
    targets, weights = targets[weights.isfinite()], weights[weights.isfinite()]
    n_classes = len(net.classes_)
    sums = torch.zeros(n_classes, dtype=weights.dtype, device=weights.device).index_add(0, targets, weights)
    squares = torch.zeros_like(sums).index_add(0, targets, weights.square())
    effective = (sums.square() / squares).nan_to_num(0.0).tolist()
    result |= {f"effective_rows_{label}": value for label, value in zip(net.labels_, effective, strict=True)}
    floor = getattr(net.weighting_, "floor", None)
    if stored and floor is not None:
        result["at_floor"] = float((weights <= floor).to(weights.dtype).mean())
    return result

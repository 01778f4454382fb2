"""Outputs of many fitted networks on the same rows, in one pass where they have one structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skreweight._classifier import ReweightedClassifier
from skreweight._net.indices import rows_for
from skreweight._net.predicting import PREDICTION_ROWS
from skreweight._pack.failures import FAILURES, is_own_defect
from skreweight._pack.rows import on_device
from skreweight._pack.suited import structure, why_module_alone
from skreweight._rows.place import cast_by_batch
from skreweight.core.model import Model

#: Networks that are run at once.
MEMBERS_AT_ONCE = 64


def outputs_of(nets: Sequence[ReweightedClassifier], X: Any) -> list[Tensor | None]:
    """Return what each network puts out for the rows, on the CPU; None where it cannot.

    Parameters
    ----------
    nets : sequence of ReweightedClassifier
        Fitted.
    X : array-like of shape (n_rows, ...)

    Returns
    -------
    list of torch.Tensor or None
    """
    found: list[Tensor | None] = [None] * len(nets)
    groups: dict[Any, list[int]] = {}
    for number, net in enumerate(nets):
        groups.setdefault(structure(net), []).append(number)
    for numbers in groups.values():
        for begin in range(0, len(numbers), MEMBERS_AT_ONCE):
            some = numbers[begin : begin + MEMBERS_AT_ONCE]
            for number, outputs in zip(some, _outputs([nets[k] for k in some], X), strict=True):
                found[number] = outputs
    return found


def _outputs(nets: list[ReweightedClassifier], X: Any) -> list[Tensor | None]:
    if len(nets) > 1 and why_module_alone(nets[0].module_) is None:
        try:
            together = _together(nets, X)
        except FAILURES as error:
            if is_own_defect(error):
                raise
            together = None  # what is wrong is told to each
        if together is not None:
            return [net._corrected(outputs) for net, outputs in zip(nets, together, strict=True)]
    return [_alone(net, X) for net in nets]


def _alone(net: ReweightedClassifier, X: Any) -> Tensor | None:
    try:
        return net._outputs(X)
    except FAILURES:
        return None


@torch.no_grad()
def _together(nets: list[ReweightedClassifier], X: Any) -> Tensor | None:
    """Outputs of shape (K, n_rows, ...), or None where the rows are no one tensor."""
    first = nets[0]
    x = rows_for(first, X)
    if not isinstance(x, Tensor) or cast_by_batch(x, first._floating_dtype()):
        return None
    x = on_device(x, first)
    model = Model(*[net.module_ for net in nets], stacked=True).evaluation()
    size = max(1, PREDICTION_ROWS // len(nets) * 8)
    parts = [model(rows.expand(len(nets), *rows.shape)).cpu() for rows in x.split(size)]
    return torch.cat(parts, dim=1)

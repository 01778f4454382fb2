"""Why training failed on a batch: asked only once it has, so that it costs nothing otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skreweight._rows.batches import features_of

#: What torch raises where a module and what it is given do not fit.
FAILURES = (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError)


def explained(error: Exception, module: nn.Module, criterion: nn.Module, few: Any) -> ValueError | None:
    """Return the error to raise instead of one of torch's, or None where the module is not to blame.

    Parameters
    ----------
    error : Exception
        As training ended with it.
    module : torch.nn.Module
        In evaluation mode.
    criterion : torch.nn.Module
        Gives one loss per row.
    few : torch.Tensor or mapping of str to torch.Tensor
        The features of a few rows, which the module is tried on.
    """
    if "more than 1 value per channel" in str(error):
        return ValueError(
            "A batch of one row came to a normalisation layer, which needs two in training: set "
            "iterator_train__drop_last=True, or another batch_size."
        )
    if isinstance(error, ValueError):  # it says itself what is wrong
        return None
    try:
        with torch.no_grad():
            outputs = module(**few) if isinstance(few, Mapping) else module(few)
    except FAILURES as failure:
        reason = _first_line(failure)
        return ValueError(
            f"The module cannot take a batch of X, got {_shown(few)}: {reason}. {_advice(few, reason)}"
        )
    first = outputs[0] if isinstance(outputs, tuple | list) else outputs
    wanted = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)
    if isinstance(first, Tensor) and wanted is not None and first.dtype != wanted:
        return ValueError(
            f"The module must return outputs of its parameters' dtype, {wanted}, got {first.dtype}: cast them in "
            "forward, or the module itself."
        )
    try:
        with torch.no_grad():
            criterion(first, torch.zeros(len(first), dtype=torch.int64, device=first.device))
    except FAILURES as failure:
        return ValueError(
            f"The criterion cannot take outputs and class codes, got {criterion!r}: {_first_line(failure)}."
        )
    return None


def _first_line(failure: Exception) -> str:
    return (str(failure).splitlines() or [type(failure).__name__])[0].rstrip(".")


def _shown(x: Any) -> str:
    if isinstance(x, Mapping):
        return "a mapping of " + ", ".join(f"{name!r} ({_shown(value)})" for name, value in x.items())
    return f"shape {tuple(x.shape)} of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__


def _advice(x: Any, reason: str) -> str:
    if "Long, Int" in reason:
        return "Pass X as an array, a tensor or a mapping of arrays of integers, which stay integers."
    if "index out of range" in reason:
        return "An Embedding has rows for 0 to num_embeddings - 1: make it larger, or number what X holds from 0."
    if isinstance(x, Tensor) and not x.is_floating_point():
        return "Pass X.float() where the module takes numbers."
    return "Give the module the sizes of X: arguments of its class called n_features and n_classes are filled in."


def first_bad_item(dataset: Any) -> int | None:
    """Return the first item of a Dataset whose features are not finite, or None."""
    for i in range(len(dataset)):
        x = features_of(dataset[i])
        parts = x.values() if isinstance(x, Mapping) else [x]
        tensors = [torch.as_tensor(part) for part in parts]
        if any(t.is_floating_point() and not bool(t.isfinite().all()) for t in tensors):
            return i
    return None

"""Criteria that return one loss per row, and class weights on them."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skreweight._names import check_arguments
from skreweight._rows.carve import shown
from skreweight.losses import effective_number_weights


class _LogOfProbabilities(nn.NLLLoss):
    """NLLLoss for a module that returns probabilities, as skorch takes it: the log is applied here."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return −log p of the target."""
        return super().forward(input.clamp(min=torch.finfo(input.dtype).tiny).log(), target)


class _OneLogit(nn.BCEWithLogitsLoss):
    """BCEWithLogitsLoss for class codes and a single output per row."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the logistic loss of the single logits."""
        if input.numel() != len(target):
            raise ValueError(
                f"BCEWithLogitsLoss takes one output per row, the module gives {input.numel() // len(target)}: "
                "use CrossEntropyLoss, or a module with a single output."
            )
        return super().forward(input.reshape(len(target)), target.to(input.dtype))


_WRAPPED: dict[type[nn.Module], type[nn.Module]] = {
    nn.NLLLoss: _LogOfProbabilities,
    nn.BCEWithLogitsLoss: _OneLogit,
}


def per_example_criterion(
    criterion: Any, kwargs: dict[str, Any], class_counts: NDArray[Any] | None
) -> nn.Module:
    """Return the criterion with ``reduction="none"``.

    Parameters
    ----------
    criterion : class or instance
        An instance is copied.
    kwargs : dict
        The user's ``criterion__*``.
    class_counts : ndarray of shape (n_classes,) or None
        Fills a parameter of that name.

    Raises
    ------
    ValueError
        For a criterion that cannot return one loss per row.
    """
    kind = type(criterion) if isinstance(criterion, nn.Module) else criterion
    if isinstance(criterion, nn.Module) and not kwargs:
        made: Any = copy.deepcopy(criterion)
        if hasattr(made, "reduction"):
            made.reduction = "none"
        made.__class__ = _WRAPPED.get(kind, kind)
    else:
        check_arguments("criterion", kind, kwargs)
        accepted = inspect.signature(kind).parameters
        options = dict(kwargs)
        if "reduction" in accepted:
            options["reduction"] = "none"
        if "class_counts" in accepted and class_counts is not None:
            options.setdefault("class_counts", class_counts)
        made = _WRAPPED.get(kind, kind)(**options)
    if hasattr(made, "reduction") and made.reduction != "none":
        raise ValueError(
            f"criterion {kind.__name__} does not give one loss per row: it needs reduction='none'."
        )
    return made


def class_weight_vector(
    class_weight: str | dict[Any, float], counts: NDArray[np.float64], labels: NDArray[Any]
) -> Tensor:
    """Return the weight of each class by its code, shape (C,), float64.

    Parameters
    ----------
    class_weight : {"balanced", "effective-number"} or dict
    counts : ndarray of shape (C,)
        (Weighted) number of training rows of each class.
    labels : ndarray of shape (C,)

    Raises
    ------
    ValueError
        For a dict that names an unknown label.
    """
    if class_weight == "balanced":
        present = counts > 0
        share = np.divide(counts.sum(), counts, out=np.zeros_like(counts), where=present)
        return torch.from_numpy(share / np.count_nonzero(present))
    if isinstance(class_weight, str):
        return effective_number_weights(counts)
    unknown = [label for label in class_weight if label not in labels]
    if unknown:
        raise ValueError(f"class_weight names {unknown[0]!r}, which is none of the classes {shown(labels)}.")
    by_label = {label: float(w) for label, w in class_weight.items()}
    return torch.tensor([by_label.get(label, 1.0) for label in labels.tolist()], dtype=torch.float64)

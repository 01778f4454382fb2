"""Criteria that return one loss per row, and class weights on them."""

from __future__ import annotations

import copy
import inspect
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skreweight._names import check_arguments
from skreweight._net.predict import are_log_probabilities, are_probabilities
from skreweight._rows.carve import shown
from skreweight.losses import effective_number_weights


class NegativeLogLikelihood(nn.NLLLoss):
    """NLLLoss for a module that returns log-probabilities, as torch takes it, or probabilities, as skorch does.

    Attributes
    ----------
    takes_logs : bool or None
        Which of them the module returns; None before the first batch, which tells.
    """

    takes_logs: bool | None = None

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return −log p of the target."""
        if self.takes_logs is None and not bool(input.detach().isnan().any()):
            self.takes_logs = _are_logs(input.detach())
        logs = input if self.takes_logs else input.clamp(min=torch.finfo(input.dtype).tiny).log()
        return super().forward(logs, target)


def _are_logs(outputs: Tensor) -> bool:
    logs = are_log_probabilities(outputs)
    if not logs and not are_probabilities(outputs):
        raise ValueError(
            "NLLLoss takes log-probabilities or probabilities, and the module's outputs are neither (a row sums to "
            f"{outputs.flatten(1)[0].sum():.3g}): end the module with LogSoftmax or Softmax, or use CrossEntropyLoss."
        )
    return logs


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


class _MultiMargin(nn.MultiMarginLoss):
    """MultiMarginLoss in steps that have second derivatives, which torch's kernel lacks."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return Σ_c max(0, margin − z_y + z_c)^p / C over the classes c other than y, times the weight of y."""
        hinge = (self.margin - input.gather(-1, target.unsqueeze(-1)) + input).clamp(min=0)
        own = nn.functional.one_hot(target, input.shape[-1]).bool()
        losses = hinge.pow(self.p).masked_fill(own, 0.0).mean(dim=-1)
        return losses if self.weight is None else losses * self.weight[target]


#: Torch's criteria for class codes that take one output per class.
ONE_PER_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)

_WRAPPED: dict[type[nn.Module], type[nn.Module]] = {
    nn.NLLLoss: NegativeLogLikelihood,
    nn.BCEWithLogitsLoss: _OneLogit,
    nn.MultiMarginLoss: _MultiMargin,
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
    _check_kind(kind)
    if isinstance(criterion, nn.Module) and not kwargs:
        made: Any = copy.deepcopy(criterion)
        if hasattr(made, "reduction"):
            made.reduction = "none"
        made.__class__ = _WRAPPED.get(kind, kind)
    else:
        check_arguments("criterion", kind, kwargs)
        accepted = inspect.signature(kind).parameters
        options = dict(kwargs)
        if options.get("reduction", "none") != "none":
            raise ValueError(
                f"criterion__reduction must be left out, got {options['reduction']!r}: one loss per row is what is "
                "weighed."
            )
        _check_nothing_lacks(kind, {*options, "reduction", "class_counts"})
        if "reduction" in accepted:
            options["reduction"] = "none"
        if "class_counts" in accepted and class_counts is not None:
            options.setdefault("class_counts", class_counts)
        made = _WRAPPED.get(kind, kind)(**options)
    if not isinstance(made, nn.Module):
        raise ValueError(
            f"criterion must be a class or an object of torch.nn.Module, got {criterion!r}: use one like "
            "torch.nn.CrossEntropyLoss."
        )
    if hasattr(made, "reduction") and made.reduction != "none":
        raise ValueError(
            f"criterion {getattr(kind, '__name__', kind)} does not give one loss per row: it needs reduction='none'."
        )
    return made


def _check_kind(kind: Any) -> None:
    """Raise a ValueError for what is no criterion for class codes."""
    if not callable(kind):
        raise ValueError(
            f"criterion must be a class or an object of torch.nn.Module, got {kind!r}: use one like "
            "torch.nn.CrossEntropyLoss."
        )
    of_torch = isinstance(kind, type) and kind.__module__ == nn.MSELoss.__module__
    if of_torch and not issubclass(kind, (*ONE_PER_CLASS, nn.BCEWithLogitsLoss)):
        instead = "BCEWithLogitsLoss" if kind is nn.BCELoss else "CrossEntropyLoss"
        raise ValueError(f"criterion {kind.__name__} takes no class codes: use torch.nn.{instead}.")


def _check_nothing_lacks(kind: Any, known: set[str]) -> None:
    parameters = inspect.signature(kind).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    lacking = [
        n for n, p in parameters.items() if p.default is p.empty and p.kind not in variadic and n not in known
    ]
    if lacking and not isinstance(kind, type):
        raise ValueError(
            f"criterion must be a class or an object of torch.nn.Module, got the function {kind!r}: use the class "
            "that belongs to it, as torch.nn.CrossEntropyLoss."
        )
    if lacking:
        raise ValueError(
            f"criterion {kind.__name__} needs the argument {lacking[0]!r}: set criterion__{lacking[0]}."
        )


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
        For a dict that names an unknown label, or a weight that is no finite number above 0.
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
    for label, weight in class_weight.items():
        if not isinstance(weight, Real) or not 0 < weight < np.inf:
            raise ValueError(
                f"class_weight[{label!r}] must be a finite number above 0, got {weight!r}: to leave a class out, "
                "leave out its rows."
            )
    by_label = {label: float(w) for label, w in class_weight.items()}
    return torch.tensor([by_label.get(label, 1.0) for label in labels.tolist()], dtype=torch.float64)

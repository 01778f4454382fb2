"""Probabilities, class codes and scores from a module's outputs, as the criterion understands them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from skorch.utils import _infer_predict_nonlinearity
from torch import Tensor, nn

from skreweight.losses import LDAMLoss


def probabilities(outputs: Tensor, net: Any) -> Tensor:
    """Return class probabilities, shape (n_rows, n_classes).

    Parameters
    ----------
    outputs : torch.Tensor of shape (n_rows, n_classes), (n_rows, 1) or (n_rows,)
    net : object with ``criterion_``
        skorch looks at it to choose the function for a single output.
    """
    criterion = plain(net.criterion_)
    if callable(of_criterion := getattr(criterion, "probabilities", None)):
        return of_criterion(outputs)
    if isinstance(criterion, nn.NLLLoss):
        return outputs.exp() if are_log_probabilities(outputs) else outputs
    if has_one_logit(outputs):
        return _infer_predict_nonlinearity(net)(outputs.reshape(-1))
    return torch.softmax(outputs, dim=1)


def gathered(parts: Iterable[Tensor], n_rows: Callable[[], int]) -> Tensor:
    """Return batches of outputs as one tensor, into which each is written when it comes.

    Small tensors kept between the freed activations of large ones would hold on to the memory of these.

    Parameters
    ----------
    parts : iterable of torch.Tensor
    n_rows : callable () -> int
        How many rows there are; asked once the first batch has come.
    """
    whole, done = torch.empty(0), 0
    for part in parts:
        if done == 0:
            whole = part.new_empty(n_rows(), *part.shape[1:])
        whole[done : done + len(part)] = part
        done += len(part)
    return whole[:done]


def transformed(outputs: Tensor, nonlinearity: Callable[[Tensor], Any]) -> Tensor:
    """Return what a function of the user's makes of outputs: probabilities, shape (n_rows, n_classes).

    The function may return a tensor, an array, or a tuple that begins with one; a single figure a row is the
    probability of the second of two classes.
    """
    result = nonlinearity(outputs)
    proba = torch.as_tensor(result[0] if isinstance(result, tuple) else result, device=outputs.device)
    if not has_one_logit(proba):
        return proba
    second = proba.reshape(-1)
    return torch.stack([1 - second, second], dim=1)


def check_finite(outputs: Tensor) -> None:
    """Raise a ValueError that names the first row of X whose outputs are not finite."""
    bad = not_finite(outputs)
    if bad.any():
        raise ValueError(
            f"The network's outputs are not finite for {int(bad.sum())} of {len(bad)} rows, first for row "
            f"{int(bad.nonzero()[0])} of X: its figures are too large for the network (scale X as the training rows "
            "were), or training has diverged (lower lr)."
        )


def not_finite(outputs: Tensor) -> Tensor:
    """Return which rows of outputs are NaN or overflow, shape (n_rows,).

    −inf for some classes may be: it is the logarithm of a probability of 0.
    """
    if outputs.sum().isfinite():
        return torch.zeros(len(outputs), dtype=torch.bool)
    rows = outputs.reshape(len(outputs), -1)
    return rows.isnan().any(1) | (rows == torch.inf).any(1) | (rows == -torch.inf).all(1)


def class_codes(outputs: Tensor) -> Tensor:
    """Return the predicted class codes, shape (n_rows,)."""
    if has_one_logit(outputs):
        return (outputs.reshape(-1) > 0).long()
    return outputs.argmax(dim=1)


def decision(outputs: Tensor, criterion: nn.Module) -> Tensor:
    """Return the log-odds of the second of two classes, shape (n_rows,), or the logits of more."""
    if has_one_logit(outputs):
        return outputs.reshape(-1)
    if isinstance(plain(criterion), nn.NLLLoss) and not are_log_probabilities(outputs):
        outputs = outputs.log()
    return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs


def logits_of(outputs: Tensor, criterion: nn.Module, n_lead: int = 0) -> Tensor:
    """Return the logits whose softmax the probabilities are, shape (*M, n_rows, n_classes): 0 and t for one logit t.

    Parameters
    ----------
    outputs : torch.Tensor of shape (*M, n_rows, n_classes), (*M, n_rows, 1) or (*M, n_rows)
    criterion : torch.nn.Module
    n_lead : int, default=0
        How many axes M has: whether the last axis is that of the rows cannot be told from the shape alone.
    """
    criterion = plain(criterion)
    if isinstance(criterion, nn.NLLLoss):
        return outputs if _are_logs(outputs) else outputs.clamp(min=torch.finfo(outputs.dtype).tiny).log()
    is_flat = outputs.dim() == n_lead + 1
    if isinstance(criterion, nn.BCEWithLogitsLoss) or is_flat or outputs.shape[-1] == 1:
        t = outputs if is_flat else outputs.squeeze(-1)
        return torch.stack([torch.zeros_like(t), t], dim=-1)
    return outputs * criterion.scale if isinstance(criterion, LDAMLoss) else outputs


def corrected(outputs: Tensor, criterion: nn.Module, correct: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the outputs that have corrected logits, as `logits_of` finds them."""
    logits = correct(logits_of(outputs, criterion))
    criterion = plain(criterion)
    if isinstance(criterion, nn.NLLLoss):
        return (torch.log_softmax if _are_logs(outputs) else torch.softmax)(logits, dim=-1)
    if has_one_logit(outputs):
        return (logits[..., 1] - logits[..., 0]).view_as(outputs)
    return logits / criterion.scale if isinstance(criterion, LDAMLoss) else logits


def _are_logs(outputs: Tensor) -> bool:
    """Whether what NLLLoss is given are log-probabilities rather than probabilities, of any leading axes."""
    return not bool((outputs > 0).any())


def are_probabilities(outputs: Tensor) -> bool:
    """Whether every row of outputs is a distribution over two or more classes."""
    return outputs.dim() == 2 and outputs.shape[1] > 1 and bool((outputs >= 0).all()) and _sum_to_one(outputs)


def are_log_probabilities(outputs: Tensor) -> bool:
    """Whether every row of outputs holds the logarithms of a distribution over two or more classes."""
    return (
        outputs.dim() == 2
        and outputs.shape[1] > 1
        and bool((outputs <= 0).all())
        and _sum_to_one(outputs.double().exp())
    )


def _sum_to_one(values: Tensor) -> bool:
    tolerance = 1e-3 if values.dtype.itemsize > 2 else 2e-2
    return bool(((values.sum(dim=1) - 1).abs() <= tolerance).all())


def has_one_logit(outputs: Tensor) -> bool:
    """Whether there is a single output per row."""
    return outputs.dim() == 1 or outputs.shape[1] == 1


def plain(module: Any) -> Any:
    """Return the module that torch.compile has wrapped, or itself."""
    return getattr(module, "_orig_mod", module)

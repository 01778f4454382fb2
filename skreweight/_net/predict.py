"""Probabilities, class codes and scores from a module's outputs, as the criterion understands them."""

from __future__ import annotations

from collections.abc import Callable
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
        return outputs
    if has_one_logit(outputs):
        return _infer_predict_nonlinearity(net)(outputs.reshape(-1))
    return torch.softmax(outputs, dim=1)


def class_codes(outputs: Tensor) -> Tensor:
    """Return the predicted class codes, shape (n_rows,)."""
    if has_one_logit(outputs):
        return (outputs.reshape(-1) > 0).long()
    return outputs.argmax(dim=1)


def decision(outputs: Tensor, criterion: nn.Module) -> Tensor:
    """Return the log-odds of the second of two classes, shape (n_rows,), or the logits of more."""
    if has_one_logit(outputs):
        return outputs.reshape(-1)
    if isinstance(plain(criterion), nn.NLLLoss):
        outputs = outputs.log()
    return outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs


def logits_of(outputs: Tensor, criterion: nn.Module) -> Tensor:
    """Return the logits whose softmax the probabilities are, shape (..., n_classes): 0 and t for one logit t."""
    criterion = plain(criterion)
    if isinstance(criterion, nn.NLLLoss):
        return outputs.clamp(min=torch.finfo(outputs.dtype).tiny).log()
    if isinstance(criterion, nn.BCEWithLogitsLoss) or outputs.dim() == 1 or outputs.shape[-1] == 1:
        t = outputs.squeeze(-1) if outputs.dim() > 1 else outputs
        return torch.stack([torch.zeros_like(t), t], dim=-1)
    return outputs * criterion.scale if isinstance(criterion, LDAMLoss) else outputs


def corrected(outputs: Tensor, criterion: nn.Module, correct: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the outputs that have corrected logits, as `logits_of` finds them."""
    logits = correct(logits_of(outputs, criterion))
    criterion = plain(criterion)
    if isinstance(criterion, nn.NLLLoss):
        return torch.softmax(logits, dim=-1)
    if has_one_logit(outputs):
        return (logits[..., 1] - logits[..., 0]).view_as(outputs)
    return logits / criterion.scale if isinstance(criterion, LDAMLoss) else logits


def has_one_logit(outputs: Tensor) -> bool:
    """Whether there is a single output per row."""
    return outputs.dim() == 1 or outputs.shape[1] == 1


def plain(module: Any) -> Any:
    """Return the module that torch.compile has wrapped, or itself."""
    return getattr(module, "_orig_mod", module)

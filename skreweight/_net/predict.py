"""Probabilities, class codes and scores from a module's outputs, as the criterion understands them."""

from __future__ import annotations

from typing import Any

import torch
from skorch.utils import _infer_predict_nonlinearity
from torch import Tensor, nn


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


def has_one_logit(outputs: Tensor) -> bool:
    """Whether there is a single output per row."""
    return outputs.dim() == 1 or outputs.shape[1] == 1


def plain(module: Any) -> Any:
    """Return the module that torch.compile has wrapped, or itself."""
    return getattr(module, "_orig_mod", module)

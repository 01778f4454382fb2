"""What a module's outputs are, looked at on the first batch of a training."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from skreweight._net.criterion import ONE_PER_CLASS, NegativeLogLikelihood
from skreweight._net.predict import are_probabilities, has_one_logit, plain


class FirstOutputs:
    """Checks the first outputs that a criterion is given from now on, and no others: later batches cost nothing.

    Parameters
    ----------
    criterion : torch.nn.Module
        Gets a hook until it is called for the first time.
    n_classes : int
    """

    def __init__(self, criterion: nn.Module, n_classes: int) -> None:
        self._n_classes = n_classes
        self._handle = plain(criterion).register_forward_pre_hook(self)

    def __call__(self, criterion: nn.Module, given: tuple[Any, ...]) -> None:
        """Check what the criterion was called with."""
        self.remove()
        if isinstance(criterion, NegativeLogLikelihood):
            criterion.takes_logs = None  # the module may be another by now
        check_outputs(given[0], len(given[1]), criterion, self._n_classes)

    def remove(self) -> None:
        """Look at nothing any more."""
        self._handle.remove()


@torch.no_grad()
def check_outputs(outputs: Any, n_rows: int, criterion: nn.Module, n_classes: int) -> None:
    """Check outputs against the criterion and the number of classes.

    Parameters
    ----------
    outputs : torch.Tensor of shape (n_rows, n_classes), (n_rows, 1) or (n_rows,)
    n_rows : int
    criterion : torch.nn.Module
    n_classes : int

    Raises
    ------
    ValueError
        Where the module has the wrong number of outputs, or outputs the criterion does not take.

    Warns
    -----
    UserWarning
        Where probabilities go to a criterion that takes logits.
    """
    name = _name_of(criterion)
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        kind = outputs.dtype if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"The module must return a tensor of floating dtype (or a tuple that begins with one), got {kind}."
        )
    if outputs.dim() not in (1, 2) or len(outputs) != n_rows:
        raise ValueError(
            f"The module's outputs have shape {tuple(outputs.shape)} for {n_rows} rows: ({n_rows}, {n_classes}) is "
            "wanted, one output per class."
        )
    if has_one_logit(outputs):
        _check_one_logit(name, criterion, n_classes)
    elif not isinstance(criterion, nn.BCEWithLogitsLoss):
        _check_one_per_class(outputs, name, criterion, n_classes)


def _name_of(criterion: nn.Module) -> str:
    """The name a user knows: torch's own where the criterion was wrapped."""
    return next(c.__name__ for c in type(criterion).__mro__ if not c.__module__.startswith("skreweight._net"))


def _check_one_logit(name: str, criterion: nn.Module, n_classes: int) -> None:
    if n_classes > 2 or isinstance(criterion, ONE_PER_CLASS):
        single = " or, for two classes, BCEWithLogitsLoss" if n_classes == 2 else ""
        raise ValueError(
            f"The module gives one output per row and the data has {n_classes} classes: {name} needs a module with "
            f"{n_classes} outputs{single}."
        )


def _check_one_per_class(outputs: Tensor, name: str, criterion: nn.Module, n_classes: int) -> None:
    n_outputs = outputs.shape[1]
    if n_outputs != n_classes:
        raise ValueError(
            f"The module gives {n_outputs} outputs per row and the data has {n_classes} classes: give it {n_classes} "
            "outputs (leave module__n_classes out), or name all labels in the parameter classes."
        )
    weight = getattr(criterion, "weight", None)
    if isinstance(criterion, ONE_PER_CLASS) and weight is not None and weight.shape != (n_classes,):
        raise ValueError(
            f"criterion__weight has shape {tuple(weight.shape)} and the data has {n_classes} classes: give one "
            "weight per class."
        )
    if isinstance(criterion, nn.CrossEntropyLoss) and are_probabilities(outputs):
        warnings.warn(
            f"The module's outputs are probabilities, and {name} takes logits: a softmax too many slows "
            "training down. Take the Softmax off the module, or use criterion=torch.nn.NLLLoss.",
            stacklevel=2,
        )

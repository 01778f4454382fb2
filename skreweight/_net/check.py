"""What skorch would take in silence, or fail on without naming the cause."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from skorch.dataset import Dataset as SkorchDataset
from skorch.exceptions import SkorchTrainingImpossibleError

from skreweight._rows.carve import shown


class TrimmedError(SkorchTrainingImpossibleError, ValueError):
    """An estimator that was trimmed for prediction is to be trained."""


#: Methods of skorch that a training here never calls, and where what they do belongs.
NEVER_CALLED = {
    "get_loss": "write a criterion that gives one loss per row",
    "infer": "put it into the module's forward",
    **dict.fromkeys(
        ("train_step", "train_step_single", "validation_step", "run_single_epoch", "fit_loop"),
        "use a callback, or a skreweight.weighting.Weighting of your own",
    ),
    **dict.fromkeys(
        ("get_split_datasets", "check_data"), "give validation_data, and X and y as fit takes them"
    ),
}


def check_settings(net: NeuralNet) -> None:
    """Raise a ValueError that names the setting with which nothing can be trained, or which nothing would look at.

    Parameters
    ----------
    net : NeuralNet
        With ``classes``, ``dataset``, ``optimizer`` and ``device`` as the user set them.
    """
    if getattr(net, "_trimmed_for_prediction", False):
        raise TrimmedError(
            "The net's attributes were trimmed for prediction, thus it cannot be used for training anymore: fit a "
            "new one (sklearn.base.clone), or trim a copy."
        )
    _check_overridden(type(net))
    if net.dataset is not SkorchDataset:
        raise ValueError(f"dataset is not used here, got {net.dataset!r}: pass a torch Dataset as X.")
    if isinstance(net.optimizer, str) or not callable(net.optimizer):
        raise ValueError(
            f"optimizer must be a class like torch.optim.Adam, got {net.optimizer!r}: its arguments are set as "
            "optimizer__<name>."
        )
    for callback in net.callbacks if isinstance(net.callbacks, list) else ():
        _check_callback(callback)
    if net.classes is not None:
        check_classes(net.classes)
    check_device(net.device)


def refuse_arguments(method: str, unknown: Iterable[str]) -> None:
    """Raise a TypeError, as Python does, for arguments that a method does not take."""
    for name in unknown:
        fix = (
            ": pass X_val= and y_val=."
            if name in ("eval_set", "validation_data", "eval_sample_weight")
            else "."
        )
        raise TypeError(f"{method} takes no argument {name!r}{fix}")


def check_same_classes(classes: Any, known: NDArray[Any]) -> None:
    """Raise a ValueError where classes are named that are not those of an earlier call; None names none."""
    if classes is not None and not np.array_equal(np.unique(classes), known):
        raise ValueError(
            f"classes={shown(np.unique(classes))} are not those of the first call, {shown(known)}: name all labels "
            "there, or begin anew with fit."
        )


def check_epochs(epochs: Any) -> None:
    """Raise a ValueError unless a number of epochs is None or a whole number, at least 0."""
    if epochs is not None and (not isinstance(epochs, Integral) or isinstance(epochs, bool) or epochs < 0):
        raise ValueError(f"epochs must be None or a whole number, at least 0, got {epochs!r}.")


def _check_callback(given: Any) -> None:
    callback = given[1] if isinstance(given, tuple) and len(given) == 2 else given
    if not all(hasattr(callback, name) for name in ("initialize", "set_params", "on_train_begin")):
        raise ValueError(
            f"callbacks must hold callbacks like skorch.callbacks.EarlyStopping(), or pairs (name, callback), got "
            f"{given!r}."
        )


#: Figures of the history that there are only with validation rows.
_OF_VALIDATION = ("valid_loss", "valid_acc", "valid_loss_best", "valid_acc_best")


def check_watched(callbacks: Iterable[tuple[str, Any]], n_epochs: int, *, has_validation: bool) -> None:
    """Raise a ValueError where a callback waits for what a training will not give.

    Parameters
    ----------
    callbacks : iterable of (name, callback)
        Initialised.
    n_epochs : int
        How many the training has.
    has_validation : bool
        Whether there are validation rows.
    """
    for name, callback in callbacks:
        watched = getattr(callback, "monitor", None)
        if isinstance(watched, str) and watched in _OF_VALIDATION and not has_validation:
            raise ValueError(
                f"The callback {name!r} watches {watched!r}, and there are no validation rows: set validation_data=, "
                "pass X_val and y_val to fit, or give it another monitor."
            )
        if n_epochs == 0 and isinstance(callback, EarlyStopping) and callback.load_best:
            raise ValueError(
                f"The callback {name!r} is to load the best of no epochs, got load_best=True: set max_epochs or "
                "warmup_epochs above 0."
            )


def _check_overridden(kind: type) -> None:
    for name, instead in NEVER_CALLED.items():
        owner = next(c for c in kind.__mro__ if name in vars(c))
        if not owner.__module__.startswith(("skorch.", "skreweight.")):
            raise ValueError(f"{owner.__name__}.{name} would never be called in training: {instead}.")


def check_classes(classes: Any) -> None:
    """Raise a ValueError unless labels are two or more, sorted, each once."""
    labels = np.asarray(classes)
    if labels.ndim != 1 or len(labels) < 2:
        raise ValueError(
            f"classes must name two labels or more, got {shown(labels)}: leave it out to take those of y."
        )
    expected = np.unique(labels)
    if len(expected) != len(labels) or (expected != labels).any():
        raise ValueError(
            f"classes must be sorted and name each label once, got {shown(labels)}: give {shown(expected)}."
        )


def check_device(device: Any) -> None:
    """Raise a ValueError for a device that torch does not know, or that is not here."""
    try:
        here = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"device={device!r} cannot be used here ({str(error).splitlines()[0]}): set device='auto', or 'cpu'."
        ) from error
    if here.type == "meta":
        raise ValueError("device='meta' holds no figures: set device='auto', or 'cpu'.")

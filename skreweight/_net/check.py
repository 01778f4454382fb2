"""What skorch would take in silence, or fail on without naming the cause."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import Dataset as SkorchDataset

from skreweight._rows.carve import shown

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
    _check_overridden(type(net))
    if net.dataset is not SkorchDataset:
        raise ValueError(f"dataset is not used here, got {net.dataset!r}: pass a torch Dataset as X.")
    if isinstance(net.optimizer, str) or not callable(net.optimizer):
        raise ValueError(
            f"optimizer must be a class like torch.optim.Adam, got {net.optimizer!r}: its arguments are set as "
            "optimizer__<name>."
        )
    if net.classes is not None:
        check_classes(net.classes)
    check_device(net.device)


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

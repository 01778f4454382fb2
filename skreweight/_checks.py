"""What parameters may be, those that do not go together, and those that correct for the classes twice."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import EpochScoring
from torch import nn

from skreweight._net.base import SkorchClassifier
from skreweight._net.predict import plain
from skreweight._rows.place import Given
from skreweight._rows.samplers import SAMPLINGS
from skreweight._training.processes import Processes
from skreweight._training.shared import why_not_shared
from skreweight.losses import LDAMLoss, LogitAdjustedLoss
from skreweight.weighting import LogitAdjustment, Meta, Proportion

#: What the parameters of `ReweightedClassifier` may be, beside those of every net.
CONSTRAINTS: dict[str, list[Any]] = {
    "warmup_epochs": [Interval(Integral, 0, None, closed="left")],
    "keep_best": [StrOptions({"epoch", "step"}), bool],
    "class_weight": [StrOptions({"balanced", "effective-number"}), dict, None],
    "defer_class_weight": ["boolean"],
    "sampling": [StrOptions(SAMPLINGS), Interval(Real, 0, 1, closed="both"), None],
    "defer_sampling": ["boolean"],
    "stage_two_trainable": [str, list, tuple, None],
    "classifier": [str],
    "train_on_validation": ["boolean"],
    "validation_batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "restart_stage_two": ["boolean", StrOptions({"auto"})],
    "on_nonfinite": [StrOptions({"raise", "skip"})],
    "diagnostics": ["boolean"],
    "autocast": [StrOptions({"bfloat16"}), None],
    "distributed": [StrOptions({"auto"}), "boolean"],
    "random_state": ["random_state"],
    "checkpoint": [str, PathLike, None],
    "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
}


def check_together(net: SkorchClassifier) -> None:
    """Check an estimator whose components are made.

    Raises
    ------
    ValueError
        Where two parameters say different things.

    Warns
    -----
    UserWarning
        Where more than one of them corrects for the number of rows in the classes.
    """
    _check_sampling(net)
    _check_trainable(net)
    _check_correction(net)
    twice = _corrections(net)
    if len(twice) > 1 and (_draws(net) or isinstance(net.weighting_, LogitAdjustment)):
        warnings.warn(
            f"The classes' numbers of rows are corrected for twice: {' and '.join(twice)}. Leave out all but one.",
            stacklevel=4,
        )


def check_shared(net: SkorchClassifier, given: Given, processes: Processes) -> None:
    """Check that an estimator whose components are made can be trained over processes, on the same in all of them.

    Raises
    ------
    ValueError
        In every process.
    """
    reason = why_not_shared(net.module_, net.weighting_)
    for _, callback in net.callbacks_:
        if isinstance(callback, EpochScoring) and callback.on_train:
            reason = "EpochScoring(on_train=True) would score one process's rows: score validation rows"
    if reason is not None:
        raise ValueError(f"This cannot be trained over processes: {reason}, or set distributed=False.")
    codes = given.labelled.codes
    weights = given.labelled.weights
    digest = [len(codes), *given.class_counts, float(codes @ (np.arange(len(codes)) % 997))]
    if weights is not None:
        digest.append(float(weights @ (np.arange(len(codes)) % 991)))
    processes.check_same(
        "their rows, labels or sample weights", np.array(digest), "give each the same X and y, whole"
    )


def check_stand(net: SkorchClassifier, processes: Processes) -> None:
    """Check that an estimator goes on from the same place in all processes.

    Raises
    ------
    ValueError
        In every process.
    """
    stands = [net.progress_.epochs_done, sum(p.numel() for p in net.module_.parameters())]
    processes.check_same(
        "the epochs they have trained or the size of the network",
        np.array(stands),
        "let all begin from the same file, on a disk that each can read",
    )


def _check_sampling(net: SkorchClassifier) -> None:
    given = net.get_params_for("iterator_train")
    if net.sampling is not None:
        for name in ("sampler", "batch_sampler"):
            if given.get(name) is not None:
                raise ValueError(
                    f"sampling={net.sampling!r} and iterator_train__{name} both say which rows an epoch draws: set one."
                )
    elif net.defer_sampling:
        raise ValueError(
            "defer_sampling=True defers nothing: set sampling, or leave defer_sampling at False."
        )


def _check_trainable(net: SkorchClassifier) -> None:
    if net.stage_two_trainable is not None and len(net.stage_two_trainable) == 0:
        raise ValueError(
            "stage_two_trainable names nothing, and stage 2 would train nothing: name parameters, or leave it at None."
        )


def _check_correction(net: SkorchClassifier) -> None:
    criterion = plain(net.criterion_)
    if net.weighting_.trains_correction and isinstance(criterion, nn.NLLLoss | nn.BCEWithLogitsLoss):
        raise ValueError(
            f"{type(net.weighting_).__name__} scales one logit for each class, which criterion={net.criterion!r} does "
            "not take: use a module with logits and CrossEntropyLoss."
        )
    if isinstance(net.weighting_, LogitAdjustment) and isinstance(criterion, LDAMLoss) and criterion.tau:
        raise ValueError(
            "weighting 'logit-adjustment' adds to logits that LDAMLoss normalises at prediction: set criterion__tau=0."
        )


def _draws(net: SkorchClassifier) -> str | None:
    """What draws rows by their classes, if anything does."""
    own = getattr(net.weighting_, "sampling", "instance")
    if own != "instance":
        return f"{type(net.weighting_).__name__}, which draws {own} batches"
    return None if net.sampling in (None, 1) else f"sampling={net.sampling!r}"


def _corrections(net: SkorchClassifier) -> list[str]:
    """What corrects for the number of rows in the classes."""
    draws = _draws(net)
    found = [] if draws is None else [draws]
    weights = net.class_weight
    if weights is not None and not (isinstance(weights, dict) and len({1.0, *weights.values()}) == 1):
        found.append(f"class_weight={net.class_weight!r}")
    if isinstance(net.weighting_, Proportion | Meta | LogitAdjustment):
        found.append(type(net.weighting_).__name__)
    criterion = plain(net.criterion_)
    if isinstance(criterion, LogitAdjustedLoss):
        found.append(f"criterion={type(criterion).__name__}")
    return found

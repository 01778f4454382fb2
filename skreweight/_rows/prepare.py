"""Checks, labels, class counts and the validation rows of one fit: values in, values out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

from skreweight._rows.carve import (
    carve,
    check_given_codes,
    shown,
    warn_of_few,
    warn_of_traps,
    warn_of_unbalanced,
)
from skreweight._rows.check import (
    Columns,
    check_finite,
    columns_of_dataset,
    encode,
    is_dataset,
    labels_of,
    n_rows_of,
    rows_of,
    stack_items,
    validation_rows_of,
)
from skreweight._rows.place import Given, Labelled


@dataclass(frozen=True)
class Carving:
    """How validation rows come about.

    Attributes
    ----------
    validation_data : None, int, float, splitter or pair
        See `skreweight._rows.carve.carve`; a pair holds rows of its own.
    needed : bool
        Whether some are carved even where `validation_data` is None.
    train_on_validation : bool
        Whether they are training rows as well.
    seed : int
        Decides which rows are carved.
    """

    validation_data: Any
    needed: bool
    train_on_validation: bool
    seed: int


@dataclass(frozen=True)
class Learned:
    """What a fit learns of X and y before anything is trained."""

    classes: NDArray[Any]
    columns: Columns
    class_counts: NDArray[np.float64]
    validation_indices: NDArray[np.int64] | None


def prepare(
    X: Any,
    y: Any,
    sample_weight: Any = None,
    X_val: Any = None,
    y_val: Any = None,
    *,
    owner: str,
    carving: Carving,
    classes: NDArray[Any] | None = None,
    columns: Columns | None = None,
    any_dimensions: bool = False,
    every_class: bool = True,
) -> tuple[Given, Learned]:
    """Check what a user passed to a fit, and decide which rows validate.

    Parameters
    ----------
    X, y, sample_weight, X_val, y_val
        As in ``ReweightedClassifier.fit``.
    owner : str
        The estimator's name, for messages.
    carving : Carving
    classes : ndarray of shape (n_classes,) or None, default=None
        All labels, sorted, where they are known; None: those of y.
    columns : Columns or None, default=None
        Those of an earlier fit that goes on; None: they are learned.
    any_dimensions : bool, default=False
        Whether X may have more than two dimensions, and integers of an array are left as they are: see
        `cast`, for which the module is asked.
    every_class : bool, default=True
        Whether a class without a row to train on is an error.

    Returns
    -------
    given : Given
    learned : Learned

    Raises
    ------
    TypeError, ValueError
        For input that cannot be trained on.
    """
    if not is_dataset(X):
        features, columns = rows_of(X, columns, owner=owner, allow_nd=any_dimensions, integers=any_dimensions)
    else:
        features, columns = X, columns_of_dataset(X) if columns is None else columns
    labels = labels_of(X, y)
    n_rows = n_rows_of(features)
    if len(labels) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: [{n_rows}, {len(labels)}]"
        )
    if classes is None:
        classes = sorted_classes(labels, owner)
    weights = None
    if sample_weight is not None:
        weights = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
        weights = _of_moderate_size(weights)
    labelled = Labelled(features, encode(labels, classes), weights)
    pair = _pair(X_val, y_val, carving.validation_data)
    validation = None
    if pair is not None:
        validation = _given_validation(pair, features, classes, columns, owner, any_dimensions)
    held = np.empty(0, dtype=np.int64)
    if validation is None and (carving.needed or carving.validation_data is not None):
        generator = np.random.RandomState(carving.seed)
        held = carve(carving.validation_data, labelled.codes, classes, labelled.candidates, generator)
    if carving.needed:
        codes = labelled.codes[held] if validation is None else validation.codes
        warn_of_unbalanced(codes, classes, carving.validation_data)
        warn_of_few(codes, classes, carving.validation_data)
    counts = _class_counts(labelled, held, validation, carving.train_on_validation, len(classes))
    if every_class and validation is None and (counts == 0).any():
        label = classes[int(np.argmin(counts))]
        raise ValueError(
            f"Class {shown(label)} has no row of positive sample_weight to train on: leave its rows out, or "
            "name all classes in the parameter classes."
        )
    given = Given(labelled, held, validation, carving.train_on_validation, counts)
    return given, Learned(classes, columns, counts, held if len(held) else None)


def sorted_classes(labels: Any, owner: str) -> NDArray[Any]:
    """Return the different labels, sorted.

    Raises
    ------
    ValueError
        Where there is one only.
    """
    found = np.unique(labels)
    if len(found) < 2:
        raise ValueError(f"{owner} needs at least two classes, the data has one class: {shown(found[0])}.")
    return found


def _of_moderate_size(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights whose sums neither overflow nor vanish: their scale has no meaning."""
    largest = weights.max(initial=0.0)
    return weights if 2.0**-64 <= largest <= 2.0**64 or largest == 0 else weights / largest


def _pair(X_val: Any, y_val: Any, validation_data: Any) -> tuple[Any, Any] | None:
    """Validation rows that are not carved from X, if the user gave any."""
    if (X_val is None) != (y_val is None):
        lacking, there = ("X_val", "y_val") if X_val is None else ("y_val", "X_val")
        raise ValueError(f"{there} was given without {lacking}: pass both, or neither.")
    if X_val is None and isinstance(validation_data, partial) and "valid_ds" in validation_data.keywords:
        return validation_data.keywords["valid_ds"], None  # skorch's predefined_split
    if X_val is None and isinstance(validation_data, tuple | list):
        if len(validation_data) != 2:
            raise ValueError(
                f"validation_data as a pair must be (X_val, y_val), got {len(validation_data)} entries."
            )
        X_val, y_val = validation_data
    return None if X_val is None else (X_val, y_val)


def _given_validation(
    pair: tuple[Any, Any],
    features: Any,
    classes: NDArray[Any],
    columns: Columns,
    owner: str,
    any_dimensions: bool,
) -> Labelled:
    X_val, y_val = pair
    labels = labels_of(X_val, y_val)
    if is_dataset(X_val):
        columns_of_dataset(X_val)  # says that it is empty
        x_val = stack_items(X_val, np.arange(len(labels)))
        for part in x_val.values() if isinstance(x_val, dict) else [x_val]:
            check_finite(part, "X_val")
    else:
        x_val = validation_rows_of(
            X_val, columns, owner=owner, allow_nd=any_dimensions, integers=any_dimensions
        )
    codes = encode(labels, classes, "y_val")
    if n_rows_of(x_val) != len(codes):
        raise ValueError(
            f"X_val and y_val must have equally many rows, got {n_rows_of(x_val)} and {len(codes)}."
        )
    check_given_codes(codes, classes)
    if (
        isinstance(features, Tensor)
        and isinstance(x_val, Tensor)
        and features.dim() == 2
        and features.dtype not in (torch.bfloat16, torch.bool)
        and not features.is_cuda
    ):
        warn_of_traps(_numbers(features), _numbers(x_val.cpu()))
    return Labelled(x_val, codes)


def cast(given: Given, integers: bool) -> Given:
    """Return rows of integers as int64, or as float32, which an array of them becomes; all others as they are.

    Parameters
    ----------
    given : Given
    integers : bool
        Whether the module looks them up.

    Raises
    ------
    ValueError
        Where it does, and validation rows are no integers.
    """
    labelled, validation = given.labelled, given.validation
    dtype = torch.int64 if integers else torch.float32
    if isinstance(labelled.features, Tensor) and not labelled.features.is_floating_point():
        labelled = replace(labelled, features=labelled.features.to(dtype))
    if validation is not None and isinstance(validation.features, Tensor):
        x_val = validation.features
        if integers and x_val.is_floating_point():
            raise ValueError(
                f"X_val must hold integers as X does, which the module looks up, got {x_val.dtype}: pass "
                "X_val.astype(int)."
            )
        if not x_val.is_floating_point():
            validation = replace(validation, features=x_val.to(dtype))
    return replace(given, labelled=labelled, validation=validation)


def _numbers(features: Tensor) -> NDArray[Any]:
    return (features if features.is_floating_point() else features.float()).numpy()


def _class_counts(
    labelled: Labelled,
    held: NDArray[np.int64],
    validation: Labelled | None,
    train_on_validation: bool,
    n_classes: int,
) -> NDArray[np.float64]:
    train = labelled.candidates
    if len(held) and not train_on_validation:
        train = np.setdiff1d(train, held, assume_unique=True)
    counts = labelled.class_counts(train, n_classes)
    total = counts.sum()
    if labelled.weights is not None and total > 0:
        counts *= len(train) / total  # the scale of weights has no meaning: as if their mean were 1
    if validation is not None and train_on_validation:
        counts = counts + validation.class_counts(None, n_classes)
    return counts

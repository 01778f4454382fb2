"""Where the balanced validation rows come from."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

IntArray = NDArray[np.int64]


def shown(labels: Any) -> str:
    """Return a label, or an array of them, as users write it: without NumPy's types around it."""
    return repr(labels.tolist() if isinstance(labels, np.generic | np.ndarray) else labels)


#: The most rows per class that are carved by default: every step of a method that learns from them looks at all.
DEFAULT_ROWS_PER_CLASS = 100
#: By default this share of the rarest class leaves the training rows (Liu et al. 2022 have ten rows a class, which
#: was worse on the development sets: benchmarks/tables/development.py).
DEFAULT_SHARE_OF_RAREST = 0.2
#: Validation rows count as balanced while no class has more than so many times the rows of another.
LARGEST_RATIO = 2
#: From fewer rows of a class a method that learns weights learns next to nothing of it.
FEWEST_TO_LEARN_FROM = 5
#: With fewer rows the range of a column says little about where others lie.
FEWEST_FOR_A_RANGE = 20

#: Said where validation rows do not fit the training rows.
HOW_TO_TRANSFORM = (
    "Preprocess validation rows as X is: in a Pipeline set transform_input=['X_val'], enable metadata "
    "routing with sklearn.set_config(enable_metadata_routing=True), and call "
    "set_fit_request(X_val=True, y_val=True) on the classifier."
)


def carve(
    validation_data: Any,
    codes: IntArray,
    classes: NDArray[Any],
    candidates: IntArray,
    random_state: np.random.RandomState,
) -> IntArray:
    """Return the rows that are held out for validation.

    Parameters
    ----------
    validation_data : None, int, float, splitter or skorch.dataset.ValidSplit
        None: the same number from every class, a fifth of the rarest class, but at least 1 and at most 100.
        An int: that many rows per class. A float in (0, 1): that fraction of the rarest class, from every class. A
        scikit-learn splitter (anything with ``split``): the test rows of its first split. A skorch ``ValidSplit``, or
        a callable like it: its second part.
    codes : ndarray of shape (n_rows,)
        Class codes of all rows.
    classes : ndarray of shape (n_classes,)
        The labels, for messages.
    candidates : ndarray of shape (n,)
        The rows that count at all (those of positive sample weight).
    random_state : numpy.random.RandomState

    Returns
    -------
    ndarray of shape (m,), sorted

    Raises
    ------
    ValueError
        Where a class has too few rows, or the split leaves one out.
    """
    codes_left = codes[candidates]
    counts = np.bincount(codes_left, minlength=len(classes))
    if validation_data is None:
        n_each = min(DEFAULT_ROWS_PER_CLASS, int(DEFAULT_SHARE_OF_RAREST * counts.min()))
        held = _same_from_each(max(1, n_each), codes_left, classes, random_state)
    elif isinstance(validation_data, Integral) and not isinstance(validation_data, bool):
        if int(validation_data) < 1:
            raise ValueError(
                f"validation_data as a number of rows per class must be at least 1, got {validation_data}."
            )
        held = _same_from_each(int(validation_data), codes_left, classes, random_state)
    elif isinstance(validation_data, Real) and not isinstance(validation_data, bool):
        share = float(validation_data)
        if not 0 < share < 1:
            raise ValueError(
                f"validation_data as a fraction of the rarest class must lie between 0 and 1, got {share}."
            )
        held = _same_from_each(max(1, round(share * int(counts.min()))), codes_left, classes, random_state)
    else:
        held = _first_split(validation_data, codes_left)
        _check_every_class(codes_left, held, classes)
    return np.sort(candidates[held])


def _same_from_each(
    n_each: int, codes: IntArray, classes: NDArray[Any], random_state: np.random.RandomState
) -> IntArray:
    parts = []
    for code, label in enumerate(classes):
        rows = np.flatnonzero(codes == code)
        if len(rows) <= n_each:
            raise ValueError(
                f"Class {shown(label)} has {len(rows)} row(s): {n_each} for validation would leave none to train on. "
                "Give validation_data=(X_val, y_val), or fewer rows per class."
            )
        parts.append(random_state.choice(rows, n_each, replace=False))
    return np.concatenate(parts)


def _first_split(splitter: Any, codes: IntArray) -> IntArray:
    positions = np.arange(len(codes))
    if hasattr(splitter, "split") and not isinstance(splitter, str | bytes):
        try:
            split = next(iter(splitter.split(positions.reshape(-1, 1), codes)), None)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"validation_data={splitter!r} could not split the rows ({str(error).rstrip('.')}): give one that "
                "needs X and y alone, or rows of your own as (X_val, y_val)."
            ) from error
        if split is None:
            raise ValueError(f"validation_data={splitter!r} gives no split: its first one is taken.")
        return np.asarray(split[1])
    if callable(splitter):  # skorch's ValidSplit takes a dataset and returns two subsets of it
        dataset = TensorDataset(torch.from_numpy(positions))
        _, held = splitter(dataset, codes)
        if not hasattr(held, "indices"):
            raise ValueError(
                f"validation_data={splitter!r} must return subsets of the rows it is given, got a "
                f"{type(held).__name__}: give rows of your own as (X_val, y_val)."
            )
        return np.asarray(held.indices)
    raise ValueError(
        "validation_data must be None, a number of rows per class, a fraction of the rarest class, a splitter, or "
        f"a pair (X_val, y_val), got {splitter!r}."
    )


def _check_every_class(codes: IntArray, held: IntArray, classes: NDArray[Any]) -> None:
    is_held = np.zeros(len(codes), dtype=bool)
    is_held[held] = True
    for place, part in (("validation", codes[is_held]), ("training", codes[~is_held])):
        missing = classes[np.bincount(part, minlength=len(classes)) == 0]
        if len(missing):
            raise ValueError(
                f"The split of validation_data leaves no {place} row of class {shown(missing[0])}: use a stratified "
                "splitter, or a number of rows per class."
            )


def warn_of_few(codes: IntArray, classes: NDArray[Any], validation_data: Any) -> None:
    """Warn where a method would learn weights from next to no row of a class, unless the user named their number."""
    counts = np.bincount(codes, minlength=len(classes))
    rarest = int(np.argmin(counts))
    if counts[rarest] < FEWEST_TO_LEARN_FROM and not isinstance(validation_data, Integral):
        warnings.warn(
            f"Class {shown(classes[rarest])} has too few validation rows to learn weights from, got {counts[rarest]}: "
            "give rows of your own (X_val, y_val), set validation_data=<rows per class>, or use a "
            "weighting without them, such as 'absgd'.",
            stacklevel=4,
        )


def warn_of_unbalanced(codes: IntArray, classes: NDArray[Any], validation_data: Any) -> None:
    """Warn where a method would learn weights from validation rows that are not balanced."""
    counts = np.bincount(codes, minlength=len(classes))
    rarest, largest = int(np.argmin(counts)), int(np.argmax(counts))
    if counts[largest] > LARGEST_RATIO * counts[rarest]:
        warnings.warn(
            f"The validation rows are not balanced: {counts[largest]} of class {shown(classes[largest])}, "
            f"{counts[rarest]} of class {shown(classes[rarest])}. The weights learned from them favour the former"
            f"{' (a split, stratified or not, is as unbalanced as y)' if hasattr(validation_data, 'split') else ''}: "
            "give as many rows of every class (validation_data=<rows per class> carves them so).",
            stacklevel=3,
        )


def check_given_codes(codes: IntArray, classes: NDArray[Any]) -> None:
    """Raise a ValueError where given validation rows lack a class."""
    missing = classes[np.bincount(codes, minlength=len(classes)) == 0]
    if len(missing):
        raise ValueError(
            f"y_val has no row of class {shown(missing[0])}: validation rows must hold every class, best in equal "
            f"numbers, got {shown(np.unique(classes[codes]))}."
        )


def warn_of_traps(X: NDArray[Any], X_val: NDArray[Any]) -> None:
    """Warn where given validation rows look raw, shared with X, or cut by a cross-validation fold.

    Parameters
    ----------
    X, X_val : ndarray of shape (n_rows, n_features) and (n_val, n_features)
    """
    X_val = X_val.astype(X.dtype, copy=False)
    if len(X_val) == len(X):
        warnings.warn(
            "X_val has exactly as many rows as X. Inside a cross-validation, scikit-learn cuts such an array to the "
            "rows of the fold: give a validation set of another size, or validation_data=<rows per class>.",
            stacklevel=3,
        )
    if _scales_differ(X, X_val):
        warnings.warn(
            "The values of X_val lie on another scale than those of X, as if only one of them had been "
            f"preprocessed. {HOW_TO_TRANSFORM}",
            stacklevel=3,
        )
    shared = _n_shared_rows(X, X_val)
    if shared:
        warnings.warn(
            f"{shared} row(s) of X_val stand in X as well: weights learned on rows that are trained on favour what "
            "the network has memorised. Take them out of X.",
            stacklevel=3,
        )


def _scales_differ(X: NDArray[Any], X_val: NDArray[Any]) -> bool:
    """Whether in most columns X_val is far smaller than X, or mostly outside the range of X.

    Rows from the same source pass: each class of X_val is in X, so that its range holds most of them.
    """
    sample = X[:: max(1, len(X) // 10_000)]
    low, high = sample.min(axis=0), sample.max(axis=0)
    used = (low < high) & (X_val.min(axis=0) < X_val.max(axis=0))
    if len(sample) < FEWEST_FOR_A_RANGE or not used.any():
        return False
    outside = ((X_val < low) | (X_val > high)).mean(axis=0) > 0.5
    # float16 ends at 65,504.
    tiny = np.abs(X_val).max(axis=0).astype(np.float64) * 1000 < np.abs(sample).max(axis=0)
    return bool((outside | tiny)[used].mean() > 0.5)


def _n_shared_rows(X: NDArray[Any], X_val: NDArray[Any], rows_at_once: int = 4096) -> int:
    """How many rows of X_val equal a row of X; candidates agree in the column that tells most rows apart."""
    if X.shape[1] == 0:
        return 0
    dtype = np.result_type(X, X_val)  # rows are compared by their bytes
    X_val = X_val.astype(dtype, copy=False)
    column = int(np.argmax([len(np.unique(values)) for values in X_val.T]))
    keys = np.unique(X_val[:, column])
    wanted = [row.tobytes() for row in np.ascontiguousarray(X_val)]
    left = set(wanted)
    found: set[bytes] = set()
    for start in range(0, len(X), rows_at_once):
        chunk = X[start : start + rows_at_once].astype(dtype, copy=False)
        candidates = chunk[np.isin(chunk[:, column], keys)]
        found |= left.intersection(row.tobytes() for row in np.ascontiguousarray(candidates))
    return sum(row in found for row in wanted)

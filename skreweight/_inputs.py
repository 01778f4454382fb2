"""Checks at the door: what users pass in, as tensors and class codes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, validate_data
from torch import Tensor
from torch.utils.data import Dataset

from skreweight.batches import features_of


def is_dataset(X: Any) -> bool:
    """Whether X is a torch Dataset: an object of that class, or one that says so by its methods."""
    return isinstance(X, Dataset)


def rows_of(
    estimator: Any, X: Any, *, reset: bool, allow_nd: bool, y: Any = "no_validation"
) -> Tensor | dict[str, Tensor]:
    """Return X as a tensor (a dict of tensors for a mapping), after scikit-learn's checks.

    Parameters
    ----------
    estimator : ReweightedClassifier
        Learns ``n_features_in_`` and ``feature_names_in_`` where `reset` is true, is checked against otherwise.
    X : array-like of shape (n_rows, n_features), torch.Tensor, or mapping of arrays
        Arrays become float32 unless they are float64; tensors keep their dtype and memory.
    reset : bool
    allow_nd : bool
        Whether more than two dimensions may be (images, for a module of the user's).
    y : array-like or "no_validation", default="no_validation"
        Labels that must agree with X in number.

    Raises
    ------
    ValueError
        In scikit-learn's words: NaN, infinity, sparse, empty, 1-D, a wrong number of columns.
    """
    if isinstance(X, Mapping):
        tensors = {name: torch.as_tensor(value) for name, value in X.items()}
        check_consistent_length(*tensors.values())
        return tensors
    if isinstance(X, Tensor):
        return _checked_tensor(estimator, X, reset=reset)
    checked = validate_data(
        estimator, X, y, reset=reset, dtype=[np.float32, np.float64], allow_nd=allow_nd, accept_sparse=False
    )
    return tensor_of(checked if isinstance(y, str) else checked[0])


def tensor_of(array: NDArray[Any]) -> Tensor:
    """Return an array as a tensor on the same memory, except that Fortran order is laid out by rows."""
    if not array.flags.c_contiguous and not isinstance(array, np.memmap):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():
        # torch warns of read-only memory; nothing here ever writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array)
    tensor.is_memory_mapped = isinstance(array, np.memmap)  # type: ignore[attr-defined]
    return tensor


def _checked_tensor(estimator: Any, X: Tensor, *, reset: bool) -> Tensor:
    if X.dim() < 2:
        raise ValueError(
            f"Expected 2D array, got {X.dim()}D tensor instead: reshape your data with X.reshape(-1, 1) if it has a "
            "single feature, or X.reshape(1, -1) if it is a single row."
        )
    if len(X) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={tuple(X.shape)}) while a minimum of 1 is required."
        )
    if X.is_floating_point() and not bool(torch.isfinite(X.sum()) or torch.isfinite(X).all()):
        raise ValueError("Input X contains NaN or infinity: impute or drop such rows first.")
    if reset:
        estimator.n_features_in_ = X.shape[1]
        estimator.__dict__.pop("feature_names_in_", None)
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} "
            "features as input."
        )
    return X.detach()


def cast_like(x: Tensor | dict[str, Tensor], dtype: torch.dtype) -> Tensor | dict[str, Tensor]:
    """Return floating rows in the dtype of the module's parameters; integers of a tensor stay what they are.

    Raises
    ------
    ValueError
        Where a finite figure does not fit the narrower dtype.
    """
    if isinstance(x, dict):
        return {name: _cast(value, dtype) for name, value in x.items()}
    return _cast(x, dtype)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    if not x.is_floating_point() or x.dtype == dtype:
        return x
    narrowed = x.to(dtype)
    narrower = torch.finfo(dtype).max < torch.finfo(x.dtype).max
    if narrower and not bool(torch.isfinite(narrowed.sum()) or torch.isfinite(narrowed).all()):
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('{str(dtype).removeprefix('torch.')}'): "
            "scale such columns first."
        )
    return narrowed


def labels_of(X: Any, y: Any) -> NDArray[Any]:
    """Return the labels as a 1-D array, read from the Dataset where y is None.

    Raises
    ------
    ValueError
        For missing labels, regression targets, or another number of labels than of rows.
    """
    if y is None and is_dataset(X):
        y = _labels_of_dataset(X)
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    if isinstance(y, Tensor):
        y = y.detach().cpu().numpy()
    y = column_or_1d(y, warn=True)
    _check_no_missing(y)
    check_classification_targets(y)
    return y


def _labels_of_dataset(dataset: Any) -> Any:
    for name in ("targets", "labels", "y"):
        if getattr(dataset, name, None) is not None:
            return getattr(dataset, name)
    tensors = getattr(dataset, "tensors", None)
    if tensors is not None and len(tensors) == 2:
        return tensors[1]
    items = (dataset[i] for i in range(len(dataset)))
    labels = [item[1] for item in items if isinstance(item, tuple | list) and len(item) > 1]
    if len(labels) != len(dataset):
        raise ValueError("The Dataset gives no labels: its items must be (x, y) pairs, or pass y.")
    return np.asarray(labels)


def _check_no_missing(y: NDArray[Any]) -> None:
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError(
            "Input y contains NaN or infinity: a row without a label cannot be trained on, drop it."
        )
    if y.dtype.kind == "O" and any(label is None or label != label for label in y):
        raise ValueError("Input y contains a missing label (None or NaN): drop such rows.")


def encode(y: NDArray[Any], classes: NDArray[Any], name: str = "y") -> NDArray[np.int64]:
    """Return the position of each label among the sorted classes.

    Raises
    ------
    ValueError
        Where a label is none of the classes.
    """
    positions = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    unknown = classes[positions] != y
    if np.any(unknown):
        raise ValueError(
            f"{name} contains the label {y[unknown][0]!r}, which is none of the classes {list(classes)}."
        )
    return positions.astype(np.int64, copy=False)


def stack_items(dataset: Any, rows: NDArray[np.int64]) -> Any:
    """Return the features of some items of a Dataset as one tensor (or dict of tensors)."""
    return torch.utils.data.default_collate([features_of(dataset[int(row)]) for row in rows])

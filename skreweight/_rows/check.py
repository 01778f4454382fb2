"""Checks at the door: what users pass in, as tensors and class codes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples, check_consistent_length, validate_data
from skorch.helper import SliceDataset
from torch import Tensor
from torch.utils.data import Dataset, Subset

from skreweight._rows.batches import features_of
from skreweight._rows.carve import HOW_TO_TRANSFORM, shown

_MISSING_LABEL = (
    "Input y contains NaN, None or infinity: a row without a label cannot be trained on, drop it."
)


_ENCODE_FIRST = (
    "Encode it first: skreweight.preprocessing.TableEncoder does, or OneHotEncoder in a ColumnTransformer."
)


def is_dataset(X: Any) -> bool:
    """Whether X is a torch Dataset: an object of that class, or one that says so by its methods."""
    return isinstance(X, Dataset)


@dataclass(frozen=True)
class Columns:
    """What is known of the columns of X; None stands for nothing, as with Datasets and mappings."""

    n_features_in: int | None = None
    feature_names_in: NDArray[Any] | None = None


def rows_of(
    X: Any, columns: Columns | None, *, owner: str, allow_nd: bool, integers: bool = False
) -> tuple[Tensor | dict[str, Tensor], Columns]:
    """Return X as a tensor (a dict of tensors for a mapping), after scikit-learn's checks, and its columns.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features), torch.Tensor, or mapping of arrays
        Arrays become float32 unless they are of a floating dtype (or `integers`); tensors keep their dtype and memory.
    columns : Columns or None
        Those of an earlier X, against which this one is checked; None: they are learned.
    owner : str
        The estimator's name, for messages.
    allow_nd : bool
        Whether more than two dimensions may be (images, for a module of the user's).
    integers : bool, default=False
        Whether arrays of integers stay such.

    Raises
    ------
    TypeError
        For sparse X.
    ValueError
        In scikit-learn's words: NaN, infinity, empty, 1-D, a wrong number of columns. For text.
    """
    if isinstance(X, Mapping) and not issparse(X):  # a sparse matrix by keys is a dict as well
        return _checked_mapping(X), Columns() if columns is None else columns
    if isinstance(X, Tensor):
        return _checked_tensor(X, columns, owner, allow_nd)
    if isinstance(X, SliceDataset):
        X = np.asarray(X)  # its own shape tells of rows alone
    _check_kinds_of_columns(X, learns=columns is None)
    checked_for = _stand_in(owner)()
    if columns is not None:
        known = {"n_features_in_": columns.n_features_in, "feature_names_in_": columns.feature_names_in}
        vars(checked_for).update({name: value for name, value in known.items() if value is not None})
    try:
        # What is none of these becomes the first.
        dtypes: list[Any] = [np.float32, np.float64, np.float16]
        if integers and is_of_integers(X):
            dtypes = [np.int64, np.int32, np.int16, np.int8, np.uint8]
        checked = validate_data(
            checked_for, X, reset=columns is None, dtype=dtypes, allow_nd=allow_nd, accept_sparse=False
        )
    except ValueError as error:
        if "could not convert string" in str(error):
            raise ValueError(_about_text(X, error)) from error
        raise
    if columns is None:
        learned = vars(checked_for)
        columns = Columns(learned.get("n_features_in_"), learned.get("feature_names_in_"))
    return tensor_of(checked), columns


@cache
def _stand_in(owner: str) -> type[BaseEstimator]:
    """A class of the owner's name: scikit-learn's checks write what they learn, and whom they name, on an estimator."""
    return type(owner, (BaseEstimator,), {})


def is_of_integers(X: Any) -> bool:
    """Whether X is an array, a frame or a list of integers."""
    if isinstance(X, pd.DataFrame):
        return bool(len(X.columns)) and all(isinstance(d, np.dtype) and d.kind in "iu" for d in X.dtypes)
    if isinstance(X, list | tuple):
        try:
            X = np.asarray(X)
        except ValueError:  # rows of different lengths
            return False
    return isinstance(X, np.ndarray) and X.dtype.kind in "iu"


def validation_rows_of(
    X_val: Any, columns: Columns, *, owner: str, allow_nd: bool, integers: bool = False
) -> Tensor | dict[str, Tensor]:
    """Return given validation rows as `rows_of` does, checked against the columns of X.

    Raises
    ------
    TypeError, ValueError
        As `rows_of`, with what a Pipeline must be told for X_val to be transformed like X.
    """
    try:
        with warnings.catch_warnings():
            # Raw rows of a DataFrame beside transformed ones are told apart by their values (warn_of_traps).
            warnings.filterwarnings("ignore", message="X (has|does not have valid) feature names")
            return rows_of(X_val, columns, owner=owner, allow_nd=allow_nd, integers=integers)[0]
    except (TypeError, ValueError) as error:
        raise type(error)(f"X_val cannot be used: {error} {HOW_TO_TRANSFORM}") from error


_MOMENTS = ("datetime", "timedelta", "period", "date", "duration", "time")


def _check_kinds_of_columns(X: Any, *, learns: bool) -> None:
    """Raise a ValueError for moments in time; warn, where X is learned, of categories that become numbers.

    scikit-learn takes either for numbers without a word where all columns are of that kind.
    """
    if getattr(getattr(X, "dtype", None), "kind", "") in "mM" and hasattr(X, "dtype"):
        raise ValueError(f"X holds moments in time ({X.dtype}) where numbers belong. {_ENCODE_FIRST}")
    if not (hasattr(X, "columns") and hasattr(X, "dtypes")):
        return
    for name, dtype in zip(X.columns, X.dtypes, strict=True):
        if str(dtype).lower().startswith(_MOMENTS):
            raise ValueError(
                f"Column {name!r} of X holds moments in time where numbers belong. {_ENCODE_FIRST}"
            )
        if learns and isinstance(dtype, pd.CategoricalDtype) and dtype.categories.dtype.kind in "iufb":
            warnings.warn(
                f"Column {name!r} of X is a category, and its levels are taken as numbers. {_ENCODE_FIRST}",
                stacklevel=3,
            )


def _about_text(X: Any, error: ValueError) -> str:
    """Say where the text is that should be a number."""
    place = "X"
    if isinstance(X, pd.DataFrame):
        columns = [name for name in X.columns if not pd.api.types.is_numeric_dtype(X[name].dtype)]
        if columns:
            place = f"Column {columns[0]!r} of X"
    return (
        f"{place} holds text where numbers belong ({error}): encode it first, for instance with OneHotEncoder in a "
        "ColumnTransformer."
    )


def n_rows_of(x: Any) -> int:
    """Return the number of rows of a tensor, a Dataset or a mapping of tensors."""
    return len(next(iter(x.values())) if isinstance(x, Mapping) else x)


def n_given(X: Any) -> int:
    """Return the number of rows of X as a user passes it; X has been checked."""
    return _num_samples(next(iter(X.values())) if isinstance(X, Mapping) else X)


def tensor_of(array: NDArray[Any]) -> Tensor:
    """Return an array as a tensor on the same memory, except that Fortran order is laid out by rows."""
    is_mapped = _is_memory_mapped(array)
    if not array.flags.c_contiguous and not is_mapped:
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():
        # torch warns of read-only memory; nothing here ever writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array)
    tensor.is_memory_mapped = is_mapped  # type: ignore[attr-defined]
    return tensor


def _is_memory_mapped(array: Any) -> bool:
    """Whether an array is a view of a file: checks return plain arrays on the same memory."""
    while array is not None and not isinstance(array, np.memmap):
        array = getattr(array, "base", None)
    return array is not None


def _checked_mapping(X: Mapping[str, Any]) -> dict[str, Tensor]:
    if not X:
        raise ValueError("X is an empty mapping: give one array for each argument of the module's forward.")
    tensors = {}
    for name, value in X.items():
        try:
            tensor = value.detach() if isinstance(value, Tensor) else tensor_of(np.asarray(value))
        except TypeError as error:
            raise ValueError(f"X[{name!r}] holds no numbers ({error}): encode it first.") from error
        if tensor.dim() == 0:
            raise ValueError(f"X[{name!r}] is a single figure: give an array with one entry per row.")
        check_finite(tensor, f"X[{name!r}]")
        tensors[name] = tensor
    check_consistent_length(*tensors.values())
    _check_not_empty(next(iter(tensors.values())))
    return tensors


def columns_of_dataset(dataset: Any) -> Columns:
    """Return how many columns the first item of a Dataset has, if that is one array."""
    if len(dataset) == 0:
        raise ValueError("The Dataset is empty: a minimum of 1 item is required.")
    shape: tuple[int, ...] = getattr(features_of(dataset[0]), "shape", ())
    return Columns(int(shape[0]) if shape else None)


def check_finite(X: Tensor, name: str) -> None:
    """Raise a ValueError for rows with NaN or infinity; integers have neither."""
    if X.is_floating_point() and not bool(torch.isfinite(X.sum()) or torch.isfinite(X).all()):
        raise ValueError(f"Input {name} contains NaN or infinity: impute or drop such rows first.")


def _check_not_empty(X: Tensor) -> None:
    if len(X) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={tuple(X.shape)}) while a minimum of 1 is required."
        )


def _checked_tensor(X: Tensor, columns: Columns | None, owner: str, allow_nd: bool) -> tuple[Tensor, Columns]:
    if X.layout != torch.strided:
        raise TypeError(
            f"X is a tensor of layout {X.layout}, and a dense one is required: pass X.to_dense()."
        )
    if X.is_meta:
        raise ValueError("X is a tensor of device 'meta', which holds no figures, got nothing to learn from.")
    if X.is_complex():
        raise ValueError(
            f"Complex data not supported, got a tensor of dtype {X.dtype}: split it into columns."
        )
    if X.dim() > 2 and not allow_nd:
        raise ValueError(
            f"Found array with dim {X.dim()}, while dim <= 2 is required for module=None, got shape "
            f"{tuple(X.shape)}: use X.flatten(1), or a module of your own."
        )
    if X.dim() < 2:
        raise ValueError(
            f"Expected 2D array, got {X.dim()}D tensor instead: reshape your data with X.reshape(-1, 1) if it has a "
            "single feature, or X.reshape(1, -1) if it is a single row."
        )
    _check_not_empty(X)
    if X.shape[1] == 0:
        raise ValueError(
            f"Found array with 0 feature(s) (shape={tuple(X.shape)}) while a minimum of 1 is required."
        )
    check_finite(X, "X")
    if columns is None:
        columns = Columns(X.shape[1])
    elif columns.n_features_in is not None and X.shape[1] != columns.n_features_in:
        raise ValueError(
            f"X has {X.shape[1]} features, but {owner} is expecting {columns.n_features_in} features as input."
        )
    if not allow_nd and not X.is_floating_point():
        X = X.to(torch.float32)  # as arrays of integers and booleans become
    return X.detach(), columns


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
        raise ValueError("fit requires y to be passed, but the target y is None.")
    if isinstance(y, Tensor):
        y = y.detach().cpu().numpy()
    if np.any(pd.isna(y)):
        raise ValueError(_MISSING_LABEL)
    if isinstance(getattr(y, "dtype", None), pd.api.extensions.ExtensionDtype):
        y = np.asarray(y, dtype=getattr(y.dtype, "numpy_dtype", None))  # integers stay integers
    y = column_or_1d(y, warn=True)
    if y.dtype.kind == "f" and np.isinf(y).any():
        raise ValueError(_MISSING_LABEL)
    _check_one_kind(y)
    check_classification_targets(y)
    return y


def _check_one_kind(y: NDArray[Any]) -> None:
    """Raise a ValueError for labels that cannot be sorted, such as text among numbers."""
    if y.dtype != object or pd.api.types.infer_dtype(y, skipna=False) == "string":  # as they mostly are
        return
    kinds = {"number" if isinstance(label, Number) else type(label).__name__: label for label in y}
    if len(kinds) > 1:
        examples = " and ".join(f"{shown(label)} ({kind})" for kind, label in kinds.items())
        raise ValueError(f"The labels in y are of more than one kind, got {examples}: convert y to one type.")


def _labels_of_dataset(dataset: Any) -> Any:
    if isinstance(dataset, Subset):
        return np.asarray(_labels_of_dataset(dataset.dataset))[np.asarray(dataset.indices)]
    for name in ("targets", "labels", "y"):
        if getattr(dataset, name, None) is not None:
            return getattr(dataset, name)
    tensors = getattr(dataset, "tensors", None)
    if tensors is not None and len(tensors) == 2:
        return tensors[1]
    items = (dataset[i] for i in range(len(dataset)))
    labels = [item[1] for item in items if isinstance(item, tuple | list) and len(item) > 1]
    if len(labels) != len(dataset):
        raise ValueError(
            "The Dataset gives no labels: its items must be (x, y) pairs, got x alone: pass y, or such pairs."
        )
    return np.asarray(labels)


def encode(y: NDArray[Any], classes: NDArray[Any], name: str = "y") -> NDArray[np.int64]:
    """Return the position of each label among the sorted classes.

    Raises
    ------
    ValueError
        Where a label is none of the classes.
    """
    if (classes.dtype.kind in "US") != (y.dtype.kind in "US") and "O" not in (
        classes.dtype.kind,
        y.dtype.kind,
    ):
        unknown, positions = np.ones(len(y), dtype=bool), np.zeros(len(y), dtype=np.int64)
    else:
        try:
            positions = np.searchsorted(classes, y).clip(max=len(classes) - 1)
        except TypeError:  # labels that cannot be compared with the classes
            positions = np.zeros(len(y), dtype=np.int64)
        unknown = classes[positions] != y
    if np.any(unknown):
        raise ValueError(
            f"{name} contains the label {shown(y[unknown][0])}, which is none of the classes {shown(classes)}."
        )
    return positions.astype(np.int64, copy=False)


def stack_items(dataset: Any, rows: NDArray[np.int64]) -> Any:
    """Return the features of some items of a Dataset as one tensor (or dict of tensors)."""
    return torch.utils.data.default_collate([features_of(dataset[int(row)]) for row in rows])

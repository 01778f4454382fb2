"""Whatever holds a table, as a pandas frame."""

import sys
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_array


def frame_of(X: Any, estimator: Any) -> pd.DataFrame:
    """Return X as a DataFrame; without column names they are 0, 1, ....

    Parameters
    ----------
    X : DataFrame of pandas or polars, anything with ``to_pandas``, or array-like of shape (n_rows, n_features)
    estimator : estimator
        Named in the errors.

    Raises
    ------
    TypeError, ValueError
        In scikit-learn's words for sparse, complex or empty input and for wrong dimensions; for column names that
        occur twice and for sparse columns.
    """
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(X, polars.DataFrame):
        frame = pd.DataFrame({name: _from_polars(X[name], polars) for name in X.columns})
    elif isinstance(X, pd.DataFrame):
        frame = X
    elif hasattr(X, "to_pandas") and hasattr(X, "columns"):
        frame = X.to_pandas()
    else:
        if not sparse.issparse(X) and not hasattr(X, "dtype"):
            X = np.asarray(X, dtype=object)  # a list of mixed rows would become text
        return pd.DataFrame(check_array(X, dtype=None, ensure_all_finite=False, estimator=estimator))

    # the shape alone, for scikit-learn's words on tables without rows or columns
    check_array(np.broadcast_to(False, frame.shape), dtype=None, estimator=estimator)
    twice = [name for name, count in Counter(frame.columns).items() if count > 1]
    if twice:
        raise ValueError(f"Column names must be unique, got {twice[0]!r} more than once: rename the columns.")
    for name, dtype in frame.dtypes.items():
        if isinstance(dtype, pd.SparseDtype):
            raise TypeError(
                f"Column {name!r} is sparse, but dense data is required: give X.sparse.to_dense() where all columns "
                "are sparse, or convert this one by .sparse.to_dense()."
            )
    return frame


def _from_polars(series: Any, polars: Any) -> Any:
    """Return a column; polars' own conversion needs pyarrow."""
    kind = series.dtype
    if kind.is_integer() or kind.is_float() or kind in (polars.Date, polars.Duration):
        return series.to_numpy()
    if kind == polars.Datetime and kind.time_zone is None:
        return series.to_numpy()
    values = pd.Series(series.to_list(), dtype=object)
    return values.astype("category") if kind in (polars.Categorical, polars.Enum) else values

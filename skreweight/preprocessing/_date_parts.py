"""Parts of dates."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

PARTS = ("year", "month", "day", "weekday", "hour", "total_seconds")
_ATTRIBUTES = {"weekday": "day_of_week"}


class DateParts(TransformerMixin, BaseEstimator):
    """Columns of seconds since 1970 as columns of year, month, day, ..., all floats, gaps NaN.

    Parameters
    ----------
    parts : sequence of str, default=PARTS
        Which parts. ``total_seconds`` counts from the first date that `fit` saw, so that float32 can hold it.
    """

    def __init__(self, parts: Sequence[str] = PARTS) -> None:
        self.parts = parts

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Learn the first date of each column."""
        self.n_features_in_ = X.shape[1]
        self.first_ = np.nanmin(X.to_numpy(np.float64), axis=0)
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Return the parts of the first column, then those of the second, and so on."""
        check_is_fitted(self)
        columns: list[NDArray[np.float64]] = []
        for (_, seconds), first in zip(X.items(), self.first_, strict=True):
            gaps = seconds.isna().to_numpy()
            ticks = np.where(
                gaps, np.datetime64("NaT"), np.floor(seconds.fillna(0)).to_numpy("datetime64[s]")
            )
            dates = pd.DatetimeIndex(ticks)
            for part in self.parts:
                values = (
                    seconds - first
                    if part == "total_seconds"
                    else getattr(dates, _ATTRIBUTES.get(part, part))
                )
                columns.append(np.asarray(values, dtype=np.float64))
        return np.column_stack(columns)

    def get_feature_names_out(self, input_features: Sequence[str]) -> NDArray[np.object_]:
        """Return ``<column>_<part>`` for each."""
        return np.array([f"{name}_{part}" for name in input_features for part in self.parts], dtype=object)

"""What a column holds, and its values as floats or text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite

Kind = Literal["number", "boolean", "category", "date", "duration", "empty"]

_INFERRED: dict[str, Kind] = {
    "boolean": "boolean",
    **dict.fromkeys(("integer", "floating", "mixed-integer-float", "decimal"), "number"),
    **dict.fromkeys(("datetime64", "datetime", "date", "period"), "date"),
    **dict.fromkeys(("timedelta64", "timedelta"), "duration"),
}
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?)?")
_CONTAINERS = (list, dict, set, frozenset, tuple, np.ndarray, pd.Series, pd.DataFrame)


@dataclass(frozen=True)
class Column:
    """A column's name and kind as `fit` saw them, with the time zone of its dates, if they have one.

    `values` is a column of floats with NaN for gaps: numbers, 0 and 1 for booleans, seconds for durations, seconds
    since 1970 on the clock of the time zone for dates; for categories it is one of strings and NaN.
    """

    name: str
    kind: Kind
    time_zone: Any = None

    @classmethod
    def of(cls, series: pd.Series, name: str) -> Column:
        """Find what the column holds."""
        kind = _kind_of(series, name)
        if kind != "date":
            return cls(name, kind)
        try:
            return cls(name, kind, cls._dates(series).dt.tz)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {name!r} holds dates that pandas cannot read, got {_shown(series)} and others: convert it "
                "with pandas.to_datetime, which can make gaps of those that are none."
            ) from error

    def values(self, series: pd.Series, estimator_name: str) -> NDArray[Any]:
        """Return the values, also of a column that holds something else than in `fit`, where they can be read."""
        if self.kind == "empty" or series.isna().all():
            return np.full(len(series), np.nan, dtype=object if self.kind == "category" else np.float64)
        if self.kind == "category":
            _refuse_containers(series, self.name)
            return _texts(series)
        try:
            if self.kind == "date":
                return self._seconds(series)
            if self.kind == "duration":
                return pd.to_timedelta(series).dt.total_seconds().to_numpy(np.float64)
            values = _floats(series)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Column {self.name!r} held {self.kind}s in fit, got {_shown(series)}: give values of that kind, or "
                "None for a gap."
            ) from error
        assert_all_finite(
            values, allow_nan=True, estimator_name=estimator_name, input_name=f"column {self.name!r} of X"
        )
        return values

    def _seconds(self, series: pd.Series) -> NDArray[np.float64]:
        dates = self._dates(series)
        if (dates.dt.tz is None) != (self.time_zone is None) and dates.notna().any():
            raise TypeError("Dates with and without a time zone cannot be compared.")
        if dates.dt.tz is not None:
            dates = dates.dt.tz_convert(self.time_zone).dt.tz_localize(None)
        ticks = dates.to_numpy("datetime64[us]")
        return np.where(np.isnat(ticks), np.nan, ticks.astype(np.int64) / 1e6)

    @staticmethod
    def _dates(series: pd.Series) -> pd.Series:
        if isinstance(series.dtype, pd.PeriodDtype):
            return series.dt.to_timestamp()
        if pd.api.types.is_numeric_dtype(series.dtype) and series.notna().any():
            raise TypeError("A number is no date.")
        if pd.api.types.infer_dtype(series, skipna=True) == "period":
            return series.map(lambda period: period.to_timestamp(), na_action="ignore").astype(
                "datetime64[ns]"
            )
        if pd.api.types.infer_dtype(series, skipna=True) == "string":
            return pd.to_datetime(series, format="ISO8601")
        return pd.to_datetime(series)


def _kind_of(series: pd.Series, name: str) -> Kind:
    if series.isna().all():
        return "empty"
    if isinstance(series.dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_bool_dtype(series.dtype):
        return "boolean"
    if pd.api.types.is_any_real_numeric_dtype(series.dtype):
        return "number"
    inferred = pd.api.types.infer_dtype(series, skipna=True)
    if inferred == "complex":
        raise ValueError(
            f"Complex data not supported, column {name!r} holds it: give its real part and its imaginary part."
        )
    if inferred == "string" and all(_ISO_DATE.fullmatch(text) for text in series.dropna().unique()):
        return "date"
    _refuse_containers(series, name)
    return _INFERRED.get(inferred, "category")


def _refuse_containers(series: pd.Series, name: str) -> None:
    if series.dtype != object:
        return
    for value in series:
        if isinstance(value, _CONTAINERS):
            raise TypeError(
                f"Column {name!r} must hold one value in every entry, got a {type(value).__name__}: spread it over "
                "columns of its own, or leave the column out."
            )


def _floats(series: pd.Series) -> NDArray[np.float64]:
    if series.dtype.kind in "mM" or isinstance(series.dtype, pd.DatetimeTZDtype):
        raise TypeError("A date is no number.")
    present = series.notna().to_numpy()
    if present.all():
        return series.to_numpy(np.float64)
    values = np.full(len(series), np.nan)
    values[present] = series[present].to_numpy(np.float64)
    return values


def _texts(series: pd.Series) -> NDArray[np.object_]:
    codes, levels = pd.factorize(series)
    texts = np.array([*map(_text, levels), np.nan], dtype=object)  # the code of a gap is −1, the last
    return texts[codes]


def _text(level: Any) -> str:
    """Return a level as text; 1 and 1.0 are one level: pandas turns integers with gaps into floats."""
    if isinstance(level, float | np.floating) and float(level).is_integer():
        return str(int(level))
    return str(level)


def _shown(series: pd.Series) -> str:
    return f"{series.dropna().iloc[0]!r} ({series.dtype})"

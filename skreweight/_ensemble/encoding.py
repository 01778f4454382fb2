"""From a table as it comes to the rows that networks take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from skreweight._ensemble.rank_cosines import RankCosines
from skreweight.modules import RobustScaling
from skreweight.preprocessing import TableEncoder
from skreweight.preprocessing._frames import frame_of


class Encoding:
    """Encodes and scales rows.

    Parameters
    ----------
    encoder : "auto", transformer or None
        What the ensemble's parameter is. None: rows are numbers.
    for_recipe : bool
        Whether the rows are for the recipe's network: in any case brought to one scale, and with the cosines of
        each number's rank behind them.

    Attributes
    ----------
    steps : list of transformers
    scaling : RobustScaling or None
    cosines : RankCosines or None
    """

    def __init__(self, encoder: Any, for_recipe: bool) -> None:
        self._own, self._scaled = encoder, for_recipe or encoder == "auto"
        self.steps: list[Any] = []
        self.scaling: RobustScaling | None = None
        self.cosines: RankCosines | None = RankCosines() if for_recipe else None

    def fit_transform(self, rows: Any, y: Any) -> Any:
        """Learn the encoding of checked rows and return them encoded."""
        self.steps = [] if self._own is None or isinstance(self._own, str) else [clone(self._own)]
        if self._scaled:
            # An encoder that looked at y would carry the labels of held-out rows into training rows.
            self.steps.append(TableEncoder(high_cardinality="frequent"))
        for step in self.steps:
            rows = step.fit_transform(rows, y)
        if not self._scaled:
            return rows
        self.scaling = RobustScaling(rows.shape[1]).double().fit(torch.from_numpy(rows))
        if self.cosines is not None:
            self.cosines.fit(self._numbers(rows))
        return self._to_one_scale(rows)

    def transform(self, rows: Any) -> Any:
        """Return checked rows as those of `fit_transform` were encoded."""
        for step in self.steps:
            rows = step.transform(rows)
        return self._to_one_scale(rows) if self._scaled else rows

    def check(self, X: Any, estimator: Any, *, reset: bool = False) -> Any:
        """Return the rows after scikit-learn's checks for an estimator, which learns or knows its columns."""
        if self._own is None:
            dtypes = [np.float64, np.float32]
            return validate_data(estimator, X, reset=reset, dtype=dtypes, allow_nd=not self._scaled)
        rows = frame_of(X, estimator)
        validate_data(estimator, rows, reset=reset, skip_check_array=True)
        return rows

    def _to_one_scale(self, rows: NDArray[np.float64]) -> NDArray[np.float32]:
        """Scale in float64 (of large numbers that differ little float32 would leave nothing), then shorten."""
        assert self.scaling is not None
        scaled: NDArray[np.float32] = self.scaling(torch.from_numpy(rows)).float().numpy()
        if self.cosines is None:
            return scaled
        return np.concatenate([scaled, self.cosines(self._numbers(rows))], axis=1)

    def _numbers(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the columns, the first ones, that have more than two values."""
        return rows[:, : self.steps[-1].n_numeric_]

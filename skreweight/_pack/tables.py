"""What estimators are fitted on: some rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing


@dataclass(frozen=True, eq=False)
class Table:
    """What is passed to ``fit``: X and y of N rows, their sample weights, and validation rows besides.

    Attributes
    ----------
    X, y : array-like of shape (N, n_features) and (N,)
    sample_weight : array-like of shape (N,) or None
    X_val, y_val : array-like or None
    """

    X: Any
    y: Any
    sample_weight: Any = None
    X_val: Any = None
    y_val: Any = None

    def some(self, rows: NDArray[np.int64] | None) -> tuple[Any, ...]:
        """Return the arguments of a fit on some rows, or on all of them where `rows` is None."""
        if rows is None:
            return self.X, self.y, self.sample_weight, self.X_val, self.y_val
        weights = None if self.sample_weight is None else _safe_indexing(self.sample_weight, rows)
        return _safe_indexing(self.X, rows), _safe_indexing(self.y, rows), weights, self.X_val, self.y_val

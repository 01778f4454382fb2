"""Encoders of columns with many levels."""

import inspect
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import OneHotEncoder, TargetEncoder
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

NAMES = ("target", "frequent", "text", "drop")


def encoder_of_many_levels(name: Any, max_onehot: int, y: Any, random_state: Any) -> Any:
    """Return the transformer that a value of ``high_cardinality`` stands for; "drop" stays as it is.

    Parameters
    ----------
    name : {"target", "frequent", "text", "drop"} or transformer
    max_onehot : int
        The columns that "frequent" gives.
    y : array-like of shape (n_rows,) or None
        For "target".
    random_state : int, RandomState instance or None
        For "target" and "text".
    """
    if name == "target":
        return _target_encoder(y, random_state)
    if name == "frequent":
        return OneHotEncoder(
            max_categories=max_onehot, handle_unknown="infrequent_if_exist", sparse_output=False
        )
    return TextLevels(random_state) if name == "text" else name if name == "drop" else clone(name)


def _target_encoder(y: Any, random_state: Any) -> TargetEncoder:
    """Cross-fitted, in folds that every class has a row in, as far as its rows go."""
    is_class = type_of_target(y) in ("binary", "multiclass")
    fewest = np.unique(np.asarray(y), return_counts=True)[1].min() if is_class else len(y)
    n_folds = int(np.clip(fewest, 2, 5))
    seed = inspect.signature(TargetEncoder).parameters.get("random_state")
    if seed is not None and seed.default is None:  # before scikit-learn 1.9, which takes a splitter instead
        return TargetEncoder(cv=n_folds, random_state=random_state)
    splitter = StratifiedKFold if is_class else KFold
    return TargetEncoder(cv=splitter(n_folds, shuffle=True, random_state=random_state))


class TextLevels(TransformerMixin, BaseEstimator):
    """skrub's StringEncoder for each column: levels that share pieces of text are near each other.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        For its singular value decomposition.
    """

    def __init__(self, random_state: Any = None) -> None:
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Fit one encoder a column."""
        try:
            from skrub import StringEncoder
        except ImportError as error:
            raise ImportError(
                'high_cardinality="text" needs skrub: pip install "skreweight[tables]", or choose "target", '
                '"frequent" or "drop".'
            ) from error
        self.n_features_in_ = X.shape[1]
        self.encoders_ = [
            StringEncoder(random_state=self.random_state).fit(_named(column)) for _, column in X.items()
        ]
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Return the columns of the first encoder, then those of the second, and so on."""
        check_is_fitted(self)
        columns = (column for _, column in X.items())
        parts = [e.transform(_named(c)) for e, c in zip(self.encoders_, columns, strict=True)]
        return np.hstack([np.asarray(part, dtype=np.float64) for part in parts])

    def get_feature_names_out(self, input_features: Sequence[str]) -> NDArray[np.object_]:
        """Return ``<column>_<number>`` for each."""
        sizes = [len(encoder.get_feature_names_out()) for encoder in self.encoders_]
        names = [f"{name}_{k}" for name, n in zip(input_features, sizes, strict=True) for k in range(n)]
        return np.array(names, dtype=object)


def _named(column: pd.Series) -> pd.Series:
    """Return the column under one name: skrub remembers names and wants strings."""
    return column.rename("level")

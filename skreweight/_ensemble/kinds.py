"""Members of one kind, and what their probabilities stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing

from skreweight._classifier import ReweightedClassifier
from skreweight._ensemble.folds import IntArray, Split
from skreweight._ensemble.probabilities import FloatArray


@dataclass(frozen=True)
class Kind:
    """Members that differ in seed and held-out rows alone.

    Attributes
    ----------
    name : str
    estimators : list of ReweightedClassifier
        Fitted, on encoded rows.
    splits : list of Split
        The rows of each. The rows that a member's weighting learned from are in neither part.
    example_weights : ndarray of shape (members, n_rows)
        What each row weighs with each member; NaN where it was not trained on.
    prior : {"natural", "balanced"} or None
        The class shares that the probabilities stand for: those of the rows, equal ones, or ones to be found out.
    """

    name: str
    estimators: list[ReweightedClassifier]
    splits: list[Split]
    example_weights: FloatArray
    prior: Literal["natural", "balanced"] | None

    def mean_proba(self, X: Any) -> FloatArray:
        """Return the mean of the members' probabilities, (n_rows, C)."""
        mean: FloatArray = np.mean([_proba(net, X) for net in self.estimators], axis=0)
        return mean

    def out_of_fold(self, X: Any, n_classes: int) -> tuple[FloatArray, IntArray]:
        """Return each row's mean probabilities by members that held it out, and how many these are.

        Where there is none, it is the mean of all that are not trained on it, or of all.
        """
        n_rows = self.example_weights.shape[1]
        total, counts = np.zeros((n_rows, n_classes)), np.zeros(n_rows, dtype=np.int64)
        for net, split in zip(self.estimators, self.splits, strict=True):
            total[split.held] += _proba(net, _safe_indexing(X, split.held))
            counts[split.held] += 1
        left = np.flatnonzero(counts == 0)
        if len(left):
            proba = np.stack([_proba(net, _safe_indexing(X, left)) for net in self.estimators])
            untrained = np.isnan(self.example_weights[:, left])
            untrained[:, ~untrained.any(axis=0)] = True
            total[left] = (proba * untrained[:, :, None]).sum(axis=0) / untrained.sum(axis=0)[:, None]
        return total / np.maximum(counts, 1)[:, None], counts


def _proba(net: ReweightedClassifier, X: Any) -> FloatArray:
    proba: FloatArray = net.predict_proba(X).astype(np.float64)
    return proba


def balanced_weights(codes: IntArray, weights: FloatArray) -> FloatArray:
    """Return weights of which every class that occurs holds the same sum, all together one a row."""
    sums = np.bincount(codes, weights)
    shares: FloatArray = weights / sums[codes]
    return shares * len(codes) / np.count_nonzero(sums)


def judging_weights(codes: IntArray, weights: FloatArray, *, balanced: bool) -> FloatArray:
    """Return how much each held-out row counts where a member is judged."""
    return balanced_weights(codes, weights) if balanced else weights


def stacked_weights(kinds: Sequence[Kind]) -> NDArray[np.float64]:
    """Return the example weights of all members, kind by kind, (members, n_rows)."""
    return np.concatenate([kind.example_weights for kind in kinds])

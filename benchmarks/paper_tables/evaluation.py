"""The metrics of a fitted classifier, at its own decision and at one tuned on the validation rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from imblearn.metrics import geometric_mean_score
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss
from sklearn.preprocessing import label_binarize

from benchmarks.paper_tables.protocols import Data

#: Of a decision; average precision needs none.
DECISION_METRICS = ("accuracy", "macro_f1", "g_mean")


def evaluate(classifier: Any, data: Data) -> dict[str, float]:
    """Return every figure of a row: test metrics, and the validation accuracy and loss that select."""
    codes = np.arange(int(data.y_train.max()) + 1)
    p_test = classifier.predict_proba(data.X_test)
    figures = _decided(data.y_test, p_test.argmax(axis=1))
    figures["average_precision"] = average_precision(data.y_test, p_test, data.rare)
    if data.X_val is None:
        return figures
    p_val = classifier.predict_proba(data.X_val)
    figures["val_accuracy"] = accuracy_score(data.y_val, p_val.argmax(axis=1))
    # log_loss wants rows that sum to 1 in float64
    exact = p_val.astype(np.float64)
    figures["val_loss"] = log_loss(data.y_val, exact / exact.sum(axis=1, keepdims=True), labels=codes)
    if len(codes) == 2:
        threshold = tuned_threshold(np.asarray(data.y_val) == data.rare, p_val[:, data.rare])
        decided = np.where(p_test[:, data.rare] > threshold, data.rare, 1 - data.rare)
        figures |= {f"tuned_{name}": value for name, value in _decided(data.y_test, decided).items()}
    return figures


def _decided(y: NDArray[np.int64], decided: NDArray[np.int64]) -> dict[str, float]:
    return {
        "accuracy": float(accuracy_score(y, decided)),
        "macro_f1": float(f1_score(y, decided, average="macro", zero_division=0)),
        "g_mean": float(geometric_mean_score(y, decided)),
    }


def average_precision(y: NDArray[np.int64], probabilities: NDArray[Any], rare: int) -> float:
    """Return the average precision of the rare of two classes, or the mean over more classes."""
    n_classes = probabilities.shape[1]
    if n_classes == 2:
        return float(average_precision_score(y == rare, probabilities[:, rare]))
    return float(average_precision_score(label_binarize(y, classes=np.arange(n_classes)), probabilities))


def tuned_threshold(is_rare: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Return the threshold with the best balanced accuracy: the middle of the best ones, as many tie.

    Parameters
    ----------
    is_rare : ndarray of shape (m,), bool
    scores : ndarray of shape (m,)
        A row is called rare where its score lies above the threshold.
    """
    ranked = np.unique(scores.astype(np.float64))
    candidates = np.concatenate([[ranked[0] - 1e-12], (ranked[1:] + ranked[:-1]) / 2, [ranked[-1]]])
    called = scores[None, :] > candidates[:, None]
    accuracy = (called[:, is_rare].mean(axis=1) + (~called[:, ~is_rare]).mean(axis=1)) / 2
    best = np.flatnonzero(accuracy >= accuracy.max() - 1e-12)
    return float(candidates[best[len(best) // 2]])

"""The figures of a method on a draw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from benchmarks.paper_tables.evaluation import tuned_threshold
from benchmarks.trusted.draws import Draw
from benchmarks.trusted.methods import Fitted

FIGURES = ("average_precision", "balanced_accuracy", "tuned_balanced_accuracy", "worst_group", "tuned_worst_group",
           "found_missed", "found_false", "wrong_missed", "wrong_false")  # fmt: skip


def evaluate(fitted: Fitted, draw: Draw) -> dict[str, float]:
    """Return the figures, as far as the draw has them.

    ``tuned_``: at the threshold that is best on the validation rows. ``worst_group``: the lowest accuracy among the
    four groups. ``found_missed``: among the training rows labelled common, the average precision with which the
    rows of lowest quality are those that are rare in truth; ``wrong_missed`` is their share, what guessing has.
    ``found_false`` likewise among the rows labelled rare.
    """
    threshold = tuned_threshold(draw.y_val == 1, fitted.p_val)
    tuned = (fitted.p_test > threshold).astype(np.int64)
    figures = {
        "average_precision": float(average_precision_score(draw.y_test, fitted.p_test)),
        "balanced_accuracy": float(balanced_accuracy_score(draw.y_test, fitted.decided)),
        "tuned_balanced_accuracy": float(balanced_accuracy_score(draw.y_test, tuned)),
    }
    if draw.groups is not None:
        figures["worst_group"] = _worst(draw.y_test, fitted.decided, draw.groups)
        figures["tuned_worst_group"] = _worst(draw.y_test, tuned, draw.groups)
    if fitted.quality is not None:
        for name, label in (("missed", 0), ("false", 1)):
            given = draw.y == label
            wrong = draw.truth[given] != label
            if wrong.any():
                figures[f"found_{name}"] = float(average_precision_score(wrong, -fitted.quality[given]))
                figures[f"wrong_{name}"] = float(wrong.mean())
    return figures


def _worst(y: NDArray[np.int64], decided: NDArray[np.int64], groups: NDArray[np.int64]) -> float:
    right = decided == y
    return float(min(right[groups == group].mean() for group in np.unique(groups)))

"""The figures of a method on test rows: as it decides by itself, and decided by its out-of-fold predictions."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from imblearn.metrics import geometric_mean_score
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import average_precision_score, f1_score, log_loss
from sklearn.model_selection import StratifiedKFold, TunedThresholdClassifierCV, cross_val_predict

from skreweight import ReweightedEnsembleClassifier
from skreweight._ensemble.decision import OutOfFold, offsets_for
from skreweight._ensemble.probabilities import calibrated, log_of

#: Higher is better, but for the log loss and the seconds.
FIGURES = ("g_mean", "macro_f1", "average_precision", "log_loss")
N_FOLDS = 5


def evaluate(
    classifier: Any,
    X: NDArray[Any],
    y: NDArray[np.int64],
    X_test: NDArray[Any],
    y_test: NDArray[np.int64],
    seed: int,
) -> dict[str, float]:
    """Fit a classifier of two classes and return its figures; those that begin with ``fair_`` are decided out of fold.

    Parameters
    ----------
    classifier : not fitted
    X, y, X_test, y_test : labels 0 and 1, 1 the rare one
    seed : int
        Of the folds of the out-of-fold predictions.
    """
    start = time.process_time()
    classifier.fit(X, y)
    seconds = time.process_time() - start
    proba = np.asarray(classifier.predict_proba(X_test), dtype=np.float64)
    own = figures_of(y_test, classifier.predict(X_test), classifier.predict(X_test), proba)
    own["seconds"] = seconds
    if isinstance(classifier, ReweightedEnsembleClassifier):
        out_of_fold, fair = classifier.oof_proba_, proba
    else:
        folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
        # Its threshold moves no probability: those of what it tunes are its own, at a fifth of the fits.
        untuned = classifier.estimator if isinstance(classifier, TunedThresholdClassifierCV) else classifier
        start = time.process_time()
        out_of_fold = cross_val_predict(clone(untuned), X, y, cv=folds, method="predict_proba")
        seconds += time.process_time() - start
        shares = np.bincount(y) / len(y)
        calibration = calibrated(out_of_fold, y, np.ones(len(y)), np.log(shares))
        out_of_fold, fair = calibration(out_of_fold), calibration(proba)
    rows = OutOfFold(out_of_fold, y, np.ones(len(y)), np.bincount(y) / len(y), np.arange(2))
    by_prior, by_f1 = (
        (log_of(fair) + offsets_for(rule, rows)).argmax(axis=1) for rule in ("prior", "f1_macro")
    )
    decided = figures_of(y_test, by_prior, by_f1, fair)
    decided["seconds"] = seconds
    return own | {f"fair_{name}": value for name, value in decided.items()}


def figures_of(
    y: NDArray[np.int64], for_g_mean: NDArray[np.int64], for_f1: NDArray[np.int64], proba: NDArray[np.float64]
) -> dict[str, float]:
    """Return all figures but the seconds, G-mean and macro-F1 by predictions of their own."""
    return {
        "g_mean": float(geometric_mean_score(y, for_g_mean)),
        "macro_f1": float(f1_score(y, for_f1, average="macro")),
        "average_precision": float(average_precision_score(y, proba[:, 1])),
        "log_loss": float(log_loss(y, proba / proba.sum(axis=1, keepdims=True))),
    }

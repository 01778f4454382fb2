"""From probabilities to labels: the offsets of the log-probabilities that a rule of decision stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import get_scorer, get_scorer_names

from skreweight._ensemble.probabilities import log_of
from skreweight._names import did_you_mean

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

#: Scores that probabilities divided by the class shares do best by: no offset tuned for them measured better.
BY_PRIOR = ("prior", "balanced_accuracy", "geometric_mean_score")
#: The most thresholds that are tried.
MOST_THRESHOLDS = 300
#: Offsets within this share of the range of all scores count as equally good; the middle of them is taken.
PLATEAU = 0.004
#: What is added to a class offset in the search over several classes.
SHIFTS = np.linspace(-3, 3, 25)


@dataclass(frozen=True)
class OutOfFold:
    """What offsets are chosen on.

    Attributes
    ----------
    proba : ndarray of shape (n_rows, C)
        Calibrated out-of-fold probabilities.
    codes, weights : ndarray of shape (n_rows,)
        All weights are above 0.
    shares : ndarray of shape (C,)
        Class shares.
    labels : ndarray of shape (C,)
    """

    proba: FloatArray
    codes: IntArray
    weights: FloatArray
    shares: FloatArray
    labels: NDArray[Any]

    def confusion(self, predicted: IntArray) -> FloatArray:
        """Return the (weighted) number of rows by class and predicted class, (C, C)."""
        n = len(self.labels)
        counts = np.bincount(self.codes * n + predicted, self.weights, minlength=n * n).astype(np.float64)
        return counts.reshape(n, n)


def check_decision(decision: Any, n_classes: int) -> None:
    """Raise a ValueError for a decision that is none, or none for so many classes.

    Parameters
    ----------
    decision : str, float or callable
    n_classes : int
    """
    if isinstance(decision, Real) and not isinstance(decision, bool):
        if n_classes != 2 or not 0 < float(decision) < 1:
            raise ValueError(
                f"decision as a number is the threshold of the second of two classes, above 0 and below 1, "
                f"got {decision} for {n_classes} classes."
            )
    elif isinstance(decision, str):
        if decision in ("auto", "argmax", *BY_PRIOR):
            return
        known = get_scorer_names()
        if decision not in known:
            hint = did_you_mean(decision, [*known, "auto", "argmax", *BY_PRIOR])
            raise ValueError(
                f'decision must be "auto", "argmax", "prior", the name of a scorer, a threshold or a callable, got '
                f"{decision!r}{hint or '.'}"
            )
        if getattr(get_scorer(decision), "_response_method", None) != "predict":
            raise ValueError(f"decision={decision!r} is no score of predicted labels: choose one that is.")
    elif not callable(decision):
        raise ValueError(
            'decision must be "auto", "argmax", "prior", the name of a scorer, a threshold or a callable, got '
            f"{decision!r}."
        )


def offsets_for(decision: Any, rows: OutOfFold) -> FloatArray:
    """Return what is added to log p before the largest is taken, shape (C,).

    Parameters
    ----------
    decision : str, float or callable
        Checked; "auto" has been replaced.
    rows : OutOfFold
    """
    n_classes = len(rows.labels)
    if isinstance(decision, Real):
        return np.array([0.0, np.log(1 / float(decision) - 1)])
    if decision == "argmax":
        return np.zeros(n_classes)
    if isinstance(decision, str) and decision in BY_PRIOR:
        return -np.log(rows.shares)
    score = _score(decision, rows)
    if n_classes == 2:
        return np.array([0.0, -_threshold(score, rows)])
    starts = [np.zeros(n_classes), -np.log(rows.shares), -0.5 * np.log(rows.shares)]
    found = [_ascended(score, rows, start) for start in starts]
    return max(found, key=lambda pair: pair[0])[1]


def _score(decision: str | Callable[..., float], rows: OutOfFold) -> Callable[[IntArray], float]:
    """Return the score of predicted class codes, larger being better."""
    if not isinstance(decision, str):
        return lambda predicted: float(decision(rows.labels[rows.codes], rows.labels[predicted]))
    scorer = get_scorer(decision)

    def score(predicted: IntArray) -> float:
        confusion = rows.confusion(predicted)
        true, made = np.nonzero(confusion)
        options = {"sample_weight": confusion[true, made], **scorer._kwargs}
        return float(scorer._sign * scorer._score_func(true, made, **options))

    return score


def _threshold(score: Callable[[IntArray], float], rows: OutOfFold) -> float:
    """Return the threshold of the log-odds in the middle of the run of near-best ones round the best."""
    log_p = log_of(rows.proba)
    odds = log_p[:, 1] - log_p[:, 0]
    tried = _thresholds(odds, rows.codes)
    scores = np.array([score((odds > t).astype(np.int64)) for t in tried])
    good = scores >= scores.max() - PLATEAU * np.ptp(scores)
    low = high = int(scores.argmax())
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(tried) - 1 and good[high + 1]:
        high += 1
    return float((tried[low] + tried[high]) / 2)


def _thresholds(odds: FloatArray, codes: IntArray) -> FloatArray:
    """Return thresholds between neighbours of which one is of the rarer class: others are never better than both."""
    values = np.unique(odds)
    middles = (values[1:] + values[:-1]) / 2
    rarer = int(2 * codes.sum() < len(codes))
    beside = np.isin(values, odds[codes == rarer])
    middles = middles[beside[1:] | beside[:-1]]
    if len(middles) > MOST_THRESHOLDS:
        middles = middles[np.linspace(0, len(middles) - 1, MOST_THRESHOLDS).round().astype(int)]
    return np.concatenate([[values[0] - 1], middles, [values[-1] + 1]])


def _ascended(
    score: Callable[[IntArray], float], rows: OutOfFold, start: FloatArray
) -> tuple[float, FloatArray]:
    """Move one class offset after another to the smallest shift that is about as good as the best, three times."""
    log_p, offsets = log_of(rows.proba), start.copy()
    best = score((log_p + offsets).argmax(axis=1))
    for _ in range(3):
        for code in range(len(offsets)):
            scores = np.array([score(p) for p in _shifted(log_p + offsets, code, SHIFTS)])
            good = np.flatnonzero(scores >= scores.max() - PLATEAU * np.ptp(scores))
            nearest = good[np.abs(SHIFTS[good]).argmin()]
            if scores[nearest] > best:
                best, offsets[code] = scores[nearest], offsets[code] + SHIFTS[nearest]
    return best, offsets


def _shifted(log_p: FloatArray, code: int, shifts: FloatArray) -> Sequence[IntArray]:
    """Return the predictions after each shift of one class."""
    others = log_p.copy()
    others[:, code] = -np.inf
    rival, margin = others.argmax(axis=1), log_p[:, code] - others.max(axis=1)
    return [np.where(margin + shift > 0, code, rival) for shift in shifts]

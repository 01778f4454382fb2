"""Scores of the decision over its threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from skreweight.inspection._axes import axes_for, colour

#: Half of the thresholds are evenly spaced, half lie where the scores are.
N_THRESHOLDS = 200


class DecisionDisplay:
    """Scores over the threshold of the decision, for two classes.

    A row is called positive where its score is at least the threshold. Make it with `from_predictions`, best of all
    from out-of-fold probabilities, or `from_estimator` on rows that were not trained on.

    Parameters
    ----------
    thresholds : ndarray of shape (n_thresholds,)
        Ascending.
    scores : dict of str to ndarray of shape (n_thresholds,)
        By the score's name.
    default : float or None, default=None
        The threshold of ``predict``, marked by a dotted line; None: no line.

    Attributes
    ----------
    best_ : dict of str to float
        The threshold of the highest score; of several, the middle one.
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    lines_ : dict of str to matplotlib.lines.Line2D
    best_points_ : dict of str to matplotlib.lines.Line2D
    default_line_ : matplotlib.lines.Line2D or None

    Examples
    --------
    >>> from skreweight.inspection import DecisionDisplay
    >>> display = DecisionDisplay.from_predictions([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])
    >>> 0.3 < display.best_["balanced_accuracy"] <= 0.4
    True
    """

    def __init__(
        self,
        thresholds: NDArray[np.float64],
        scores: dict[str, NDArray[np.float64]],
        *,
        default: float | None = None,
    ) -> None:
        self.thresholds = thresholds
        self.scores = scores
        self.default = default
        self.best_ = {name: _middle_of_best(thresholds, values) for name, values in scores.items()}

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        scoring: Any = "balanced_accuracy",
        pos_label: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw the scores of a fitted classifier of two classes over the threshold of its probability.

        Parameters
        ----------
        estimator : fitted classifier with ``predict_proba``
            Pipelines too.
        X : array-like of shape (n_rows, n_features)
            Rows that were not trained on: the threshold of training rows is too optimistic.
        y : array-like of shape (n_rows,)
        scoring : str, callable or list of them, default="balanced_accuracy"
            As in `from_predictions`.
        pos_label : label or None, default=None
            None: the second of ``classes_``.
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.

        Returns
        -------
        DecisionDisplay
        """
        check_is_fitted(estimator)
        classes = np.asarray(estimator.classes_).tolist()
        if len(classes) != 2:
            raise ValueError(f"{cls.__name__} needs a classifier of two classes, got {len(classes)}.")
        positive = classes[1] if pos_label is None else pos_label
        if positive not in classes:
            raise ValueError(f"pos_label must be one of {classes!r}, got {positive!r}.")
        score = np.asarray(estimator.predict_proba(X))[:, classes.index(positive)]
        return cls._scored(y, score, scoring, classes, positive, 0.5, ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        scoring: Any = "balanced_accuracy",
        pos_label: Any = None,
        default: float | None = 0.5,
        ax: Any = None,
    ) -> Self:
        """Draw the scores of given probabilities, or other confidences, over their threshold.

        Parameters
        ----------
        y_true : array-like of shape (n_rows,)
            Labels of two classes.
        y_score : array-like of shape (n_rows,)
            Confidence in the positive class, as ``cross_val_predict(..., method="predict_proba")[:, 1]`` gives it.
        scoring : str, callable or list of them, default="balanced_accuracy"
            Names of scorers of scikit-learn, or scorers as `sklearn.metrics.make_scorer` makes them, that look at
            the predicted labels.
        pos_label : label or None, default=None
            None: the second label in sorted order.
        default : float or None, default=0.5
            The threshold to mark: 0.5 for probabilities, 0 for a ``decision_function``, None for none.
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.

        Returns
        -------
        DecisionDisplay

        Raises
        ------
        ValueError
            For other than two classes, scores that are not finite, or a scorer that needs more than labels.
        """
        classes = np.unique(np.asarray(y_true)).tolist()
        if len(classes) != 2:
            raise ValueError(f"{cls.__name__} needs labels of two classes, got {len(classes)}.")
        positive = classes[1] if pos_label is None else pos_label
        if positive not in classes:
            raise ValueError(f"pos_label must be one of {classes!r}, got {positive!r}.")
        return cls._scored(y_true, y_score, scoring, classes, positive, default, ax)

    @classmethod
    def _scored(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        scoring: Any,
        classes: list[Any],
        positive: Any,
        default: float | None,
        ax: Any,
    ) -> Self:
        labels, score = column_or_1d(y_true), column_or_1d(y_score, dtype=np.float64)
        check_consistent_length(labels, score)
        if not np.isfinite(score).all():
            raise ValueError(
                "y_score must be finite, got NaN or infinity: leave out the rows without a score."
            )
        thresholds = _thresholds(score)
        negative = classes[1 - classes.index(positive)]
        names = [scoring] if isinstance(scoring, str) or callable(scoring) else list(scoring)
        scores = {
            _name_of(one): _over_thresholds(one, thresholds, score, labels, (negative, positive))
            for one in names
        }
        return cls(thresholds, scores, default=default).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw one line per score, a point where it is highest, and the default threshold.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.

        Returns
        -------
        DecisionDisplay
        """
        self.ax_ = axes_for(type(self).__name__, ax)
        self.figure_ = self.ax_.figure
        self.lines_, self.best_points_ = {}, {}
        for place, (name, values) in enumerate(self.scores.items()):
            best = self.best_[name]
            label = f"{name}, highest {np.max(values):.3g} at {best:.3g}"
            self.lines_[name] = self.ax_.plot(self.thresholds, values, color=colour(place), label=label)[0]
            self.best_points_[name] = self.ax_.plot([best], [np.max(values)], "o", color=colour(place))[0]
        self.default_line_ = None
        if self.default is not None:
            style = {"color": "0.4", "linestyle": ":", "label": f"default threshold, {self.default:g}"}
            self.default_line_ = self.ax_.axvline(self.default, **style)
        self.ax_.set(xlabel="threshold", ylabel="score" if len(self.scores) > 1 else next(iter(self.scores)))
        self.ax_.legend()
        return self


class _AtThreshold(ClassifierMixin, BaseEstimator):
    """Calls a row positive where its one feature, the score, is at least the threshold."""

    def __init__(self, negative: Any, positive: Any, threshold: float) -> None:
        self.negative = negative
        self.positive = positive
        self.threshold = threshold

    @property
    def classes_(self) -> NDArray[Any]:
        return np.unique(np.asarray([self.negative, self.positive]))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: NDArray[np.float64]) -> NDArray[Any]:
        return np.where(X[:, 0] >= self.threshold, self.positive, self.negative)


def _thresholds(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds from the lowest score to the highest, evenly spaced and where the scores are."""
    met = np.unique(score)
    even = np.linspace(met[0], met[-1], N_THRESHOLDS // 2)
    return np.unique(np.concatenate([even, met[np.linspace(0, len(met) - 1, N_THRESHOLDS // 2).astype(int)]]))


def _over_thresholds(
    scoring: str | Callable[..., float],
    thresholds: NDArray[np.float64],
    score: NDArray[np.float64],
    labels: NDArray[Any],
    classes: tuple[Any, Any],
) -> NDArray[np.float64]:
    scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    column = score.reshape(-1, 1)
    try:
        return np.array(
            [scorer(_AtThreshold(*classes, t), column, labels) for t in thresholds.tolist()], dtype=float
        )
    except AttributeError as error:
        raise ValueError(
            f"scoring must look at predicted labels, got {_name_of(scoring)}, which needs probabilities and knows no "
            "threshold."
        ) from error


def _name_of(scoring: Any) -> str:
    if isinstance(scoring, str):
        return scoring
    named = getattr(scoring, "_score_func", scoring)
    return getattr(named, "__name__", type(scoring).__name__)


def _middle_of_best(thresholds: NDArray[np.float64], values: Sequence[float] | NDArray[np.float64]) -> float:
    best = np.flatnonzero(np.asarray(values) == np.max(values))
    return float(thresholds[best[len(best) // 2]])

"""How the example weights are spread within every class."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from skreweight.inspection._axes import axes_for, colour

#: The lowest edge of logarithmic bins, as a share of the largest weight: what lies below joins the first bin.
SMALLEST_SHARE = 1e-4


class ExampleWeightsDisplay:
    """Distribution of the example weights, class by class.

    Make it with `from_estimator` or `from_weights`.

    Parameters
    ----------
    weights : dict of label to ndarray of shape (n_rows of the class,)
        Finite weights of the rows of each class.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    artists_ : dict of label to matplotlib artist
        One histogram outline, or one curve, per class.

    Examples
    --------
    >>> from skreweight.inspection import ExampleWeightsDisplay
    >>> display = ExampleWeightsDisplay.from_weights([0.1, 0.2, 3.0, float("nan")], ["a", "a", "b", "b"])
    >>> display.weights["b"]
    array([3.])
    """

    def __init__(self, weights: dict[Any, NDArray[np.float64]]) -> None:
        self.weights = weights

    @classmethod
    def from_estimator(cls, estimator: Any, y: ArrayLike, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the ``example_weights_`` of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator with ``example_weights_``
            In a pipeline, its last step: ``pipeline[-1]``.
        y : array-like of shape (n_rows,)
            The labels that it was fitted on.
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.
        **kwargs
            As in `plot`.

        Returns
        -------
        ExampleWeightsDisplay
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "example_weights_"):
            raise ValueError(
                f"{type(estimator).__name__} has no example_weights_: pass a fitted ReweightedClassifier, of a "
                "pipeline its last step."
            )
        return cls.from_weights(estimator.example_weights_, y, ax=ax, **kwargs)

    @classmethod
    def from_weights(cls, example_weights: ArrayLike, y: ArrayLike, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw given weights.

        Parameters
        ----------
        example_weights : array-like of shape (n_rows,)
            NaN for rows that were held out: those are not drawn.
        y : array-like of shape (n_rows,)
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.
        **kwargs
            As in `plot`.

        Returns
        -------
        ExampleWeightsDisplay

        Raises
        ------
        ValueError
            Where the lengths differ, or no weight is finite.
        """
        figures, labels = column_or_1d(example_weights, dtype=np.float64), column_or_1d(y)
        check_consistent_length(figures, labels)
        known = np.isfinite(figures)
        if not known.any():
            raise ValueError(
                "No example weight is finite, got NaN for every row: fit on more rows than are held out."
            )
        by_class = {label: figures[known & (labels == label)] for label in np.unique(labels).tolist()}
        return cls({label: values for label, values in by_class.items() if len(values)}).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, kind: str = "histogram", bins: int = 30, log: bool = False) -> Self:
        """Draw one outline or curve per class.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.
        kind : {"histogram", "cumulative"}, default="histogram"
            ``"histogram"``: the share of a class's rows in each bin, so that a rare class is as tall as a common
            one. ``"cumulative"``: the share of its rows that weigh at most so much.
        bins : int, default=30
            Bins from the smallest to the largest weight of all classes.
        log : bool, default=False
            A logarithmic axis of weights, over four decades below the largest. Weights below that, 0 among them,
            stand at its lower end.

        Returns
        -------
        ExampleWeightsDisplay
        """
        if kind not in ("histogram", "cumulative"):
            raise ValueError(f"kind must be 'histogram' or 'cumulative', got {kind!r}.")
        self.ax_ = axes_for(type(self).__name__, ax)
        self.figure_ = self.ax_.figure
        self.artists_ = {}
        every = np.concatenate(list(self.weights.values()))
        lowest = every.max() * SMALLEST_SHARE if log else every.min()
        if log and lowest <= 0:
            raise ValueError("log=True needs a weight above 0, got none.")
        edges = np.geomspace(lowest, every.max(), bins + 1) if log else np.histogram_bin_edges(every, bins)
        for place, (label, values) in enumerate(self.weights.items()):
            drawn = np.maximum(values, lowest)
            style = {"label": f"{label} ({len(values):,} rows)", "color": colour(place)}
            if kind == "cumulative":
                self.artists_[label] = self.ax_.ecdf(drawn, **style)
            else:
                share = np.histogram(drawn, edges)[0] / len(values)
                self.artists_[label] = self.ax_.stairs(share, edges, fill=True, alpha=0.45, **style)
        at_most = kind == "cumulative"
        self.ax_.set(
            xlabel=f"example weight (left end: {lowest:.1g} or less)" if log else "example weight",
            xscale="log" if log else "linear",
            ylabel="share of the class's rows" + (" with at most this weight" if at_most else ""),
        )
        self.ax_.legend(title="class")
        return self

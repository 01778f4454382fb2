"""Scores of a search over one or two of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skreweight.inspection._axes import axes_for, colour


class SearchDisplay:
    """Mean test scores of a search: a heat map over two parameters, or a line with error bars over one.

    Where candidates differ in other parameters too, the best of those that agree in the parameters drawn is shown.
    Make it with `from_estimator`.

    Parameters
    ----------
    scores : array-like of shape (n_values,) or (n_values_y, n_values_x)
        NaN where there is no candidate, or where it failed.
    names : sequence of one or two str
        Of the parameters: that on the x-axis, and that on the y-axis.
    values : sequence of one or two sequences
        What they were set to, as the last and the first axis of `scores` have it.
    deviations : array-like of the shape of `scores` or None, default=None
        Standard deviation over the folds.
    score_name : str, default="score"
        What is drawn.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    image_ : matplotlib.image.AxesImage or None
        The heat map; None where there is one parameter.
    text_ : ndarray of shape (n_values_y, n_values_x) of matplotlib.text.Text, or None
        The scores in their cells, None in those without one.
    line_ : matplotlib.lines.Line2D or None
        The scores over one parameter; None where there are two.
    best_ : matplotlib.artist.Artist
        A frame around the best cell, or a star on the best value.

    Examples
    --------
    >>> from skreweight.inspection import SearchDisplay
    >>> scores = [[0.5, 0.7], [0.6, 0.9]]
    >>> display = SearchDisplay(scores, ["lam", "lr"], [[0.1, 1.0], [0.01, 0.1]]).plot()
    >>> display.text_[1, 1].get_text()
    '0.900'
    """

    def __init__(
        self,
        scores: Any,
        names: Sequence[str],
        values: Sequence[Sequence[Any]],
        *,
        deviations: Any = None,
        score_name: str = "score",
    ) -> None:
        self.scores = scores
        self.names = names
        self.values = values
        self.deviations = deviations
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls, search: Any, params: str | Sequence[str] | None = None, *, score: str | None = None,
        ax: Any = None, **kwargs: Any,
    ) -> Self:  # fmt: skip
        """Draw the scores of a fitted search.

        Parameters
        ----------
        search : fitted search with ``cv_results_``
            `PackedGridSearchCV`, `GridSearchCV`, and the randomised ones.
        params : str, list of one or two str, or None, default=None
            Names as in the grid; their end (``"lam"`` for ``reweightedclassifier__weighting__lam``) will do. None: the
            one or two that the search sets to more than one value.
        score : str or None, default=None
            Of several scores, which; None: that by which the search chose.
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.
        **kwargs
            As in `plot`.

        Returns
        -------
        SearchDisplay

        Raises
        ------
        ValueError
            For parameters or scores that the search has not, or none or more than two to draw.
        """
        check_is_fitted(search, "cv_results_")
        results = search.cv_results_
        score = _score_of(search, results, score)
        names = _names_of(results, params)
        own = [[_hashable(v) for v in _column(results, name)] for name in names]
        values = [_in_order([v for v in column if v is not _MISSING]) for column in own]
        shape = tuple(len(v) for v in reversed(values))
        scores, deviations = np.full(shape, np.nan), np.full(shape, np.nan)
        means, stds = results[f"mean_test_{score}"], results[f"std_test_{score}"]
        for k in np.argsort(means, kind="stable"):  # rising, NaN at the end: the best is written last
            at = [column[k] for column in own]
            if not np.isnan(means[k]) and _MISSING not in at:
                cell = tuple(v.index(a) for v, a in zip(reversed(values), reversed(at), strict=True))
                scores[cell], deviations[cell] = means[k], stds[k]
        shown = [[v.shown if isinstance(v, _Shown) else v for v in of_one] for of_one in values]
        name = "mean test score" if score == "score" else f"mean test {score}"
        return cls(scores, names, shown, deviations=deviations, score_name=name).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, cmap: Any = "viridis", include_values: bool = True) -> Self:
        """Draw the heat map, or the line.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.
        cmap : str or matplotlib colormap, default="viridis"
            Of the heat map.
        include_values : bool, default=True
            Whether every cell says its score.

        Returns
        -------
        SearchDisplay
        """
        scores = np.asarray(self.scores, dtype=float)
        if scores.shape != tuple(len(v) for v in reversed(self.values)) or len(self.names) != scores.ndim:
            raise ValueError(
                f"scores need one axis for each parameter, as long as its values, got shape {scores.shape} for "
                f"{len(self.names)} names and {' and '.join(str(len(v)) for v in self.values)} values."
            )
        self.ax_ = axes_for(type(self).__name__, ax)
        self.figure_ = self.ax_.figure
        self.image_: Any = None
        self.text_: Any = None
        self.line_: Any = None
        self.best_: Any = None
        if scores.ndim == 2:
            self._plot_map(scores, cmap, include_values)
        else:
            self._plot_line(scores)
        return self

    def _plot_map(self, scores: NDArray[np.float64], cmap: Any, include_values: bool) -> None:
        from matplotlib.patches import Rectangle

        self.image_ = image = self.ax_.imshow(scores, cmap=cmap, aspect="auto", origin="lower")
        self.figure_.colorbar(image, ax=self.ax_, label=self.score_name)
        for axis, name, values in zip("xy", self.names, self.values, strict=True):
            ticks = {f"{axis}ticks": range(len(values)), f"{axis}ticklabels": [_short(v) for v in values]}
            self.ax_.set(**ticks, **{f"{axis}label": _end(name)})
        if include_values:
            self.text_ = np.full(scores.shape, None, dtype=object)
            for (row, column), score in np.ndenumerate(scores):
                if np.isfinite(score):
                    red, green, blue, _ = image.cmap(image.norm(score))
                    dark = (
                        0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                    )  # what the eye takes for brightness
                    self.text_[row, column] = self.ax_.text(
                        column,
                        row,
                        f"{score:.3f}",
                        ha="center",
                        va="center",
                        color="white" if dark else "black",
                    )
        if np.isfinite(scores).any():
            row, column = np.unravel_index(np.nanargmax(scores), scores.shape)
            frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour(1), linewidth=3)
            self.best_ = self.ax_.add_patch(frame)

    def _plot_line(self, scores: NDArray[np.float64]) -> None:
        (name,), (values,) = self.names, self.values
        numbers = all(isinstance(v, Real) and not isinstance(v, bool) for v in values)
        places = np.asarray(values, dtype=float) if numbers else np.arange(len(values))
        bars = None if self.deviations is None else np.asarray(self.deviations, dtype=float)
        self.line_ = self.ax_.errorbar(places, scores, bars, marker="o", capsize=3, color=colour(0))[0]
        if numbers and len(places) > 2 and places.min() > 0 and places.max() / places.min() >= 50:
            self.ax_.set_xscale("log")
        if not numbers:
            self.ax_.set(xticks=places, xticklabels=[_short(v) for v in values])
        if np.isfinite(scores).any():
            best = int(np.nanargmax(scores))
            self.best_ = self.ax_.plot(
                places[best], scores[best], marker="*", markersize=14, color=colour(1), linestyle="none",
                label=f"best: {_short(values[best])}",
            )[0]  # fmt: skip
            bottom, top = self.ax_.get_ylim()
            self.ax_.set_ylim(top=top + 0.12 * (top - bottom))  # whiskers count for nothing in loc="best"
            self.ax_.legend(loc="upper left")
        bars_say = "" if bars is None else " ± one standard deviation over the folds"
        self.ax_.set(xlabel=_end(name), ylabel=f"{self.score_name}{bars_say}")


class _Shown:
    """A value that cannot be looked up, by how it is written."""

    def __init__(self, value: Any) -> None:
        self.shown = str(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Shown) and other.shown == self.shown

    def __hash__(self) -> int:
        return hash(self.shown)


#: Where a grid of several dicts leaves a parameter as it is.
_MISSING: Any = _Shown("not set")


def _score_of(search: Any, results: Any, score: str | None) -> str:
    found = [name.removeprefix("mean_test_") for name in results if name.startswith("mean_test_")]
    if score is None:
        refit = getattr(search, "refit", None)
        score = refit if isinstance(refit, str) and refit in found else found[0]
    if score not in found:
        raise ValueError(f"The search has no score {score!r}, got {', '.join(found)}.")
    return score


def _names_of(results: Any, params: str | Sequence[str] | None) -> list[str]:
    known = [name.removeprefix("param_") for name in results if name.startswith("param_")]
    if params is None:
        several = [n for n in known if len({_hashable(v) for v in _column(results, n)} - {_MISSING}) > 1]
        if len(several) not in (1, 2):
            raise ValueError(
                "params must name one or two parameters to draw, got None, and the search varies "
                f"{', '.join(several) or 'none'}."
            )
        return several
    found = []
    for name in [params] if isinstance(params, str) else params:
        fit = [k for k in known if k == name] or [k for k in known if k.endswith(f"__{name}")]
        if len(fit) != 1:
            raise ValueError(
                f"params must be names of the search's parameters, {', '.join(known)}, got {name!r}."
            )
        found += fit
    if len(found) not in (1, 2):
        raise ValueError(f"params must name one or two parameters, got {len(found)}.")
    return found


def _column(results: Any, name: str) -> list[Any]:
    return [params.get(name, _MISSING) for params in results["params"]]


def _hashable(value: Any) -> Any:
    """Return a value that can be compared: numbers, strings, None as they are, all else by how it is written."""
    if isinstance(value, np.generic):
        value = value.item()
    simple = value is None or isinstance(value, str | Real)
    return value if simple or value is _MISSING else _Shown(value)


def _in_order(values: list[Any]) -> list[Any]:
    """Return each value once: numbers by size, all else as it came."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(isinstance(v, Real) for v in once) else once


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _end(name: str) -> str:
    """Return a parameter's name without the steps and components that it belongs to."""
    return name.rsplit("__", 1)[-1]

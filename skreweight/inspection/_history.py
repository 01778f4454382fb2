"""The training history over both stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from skreweight.inspection._axes import axes_for, colour


class HistoryDisplay:
    """Columns of the training history over the epochs, with the boundary of the two stages marked.

    Make it with `from_estimator`.

    Parameters
    ----------
    history : pandas.DataFrame
        One row per epoch, the index, with a column ``stage``; as `ReweightedClassifier.history_frame` returns it.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    lines_ : dict of str to matplotlib.lines.Line2D
        By column.
    boundary_ : matplotlib.lines.Line2D or None
        Between the last epoch of stage 1 and the first of stage 2; None where one stage has no epoch.

    Examples
    --------
    >>> import pandas as pd
    >>> from skreweight.inspection import HistoryDisplay
    >>> frame = pd.DataFrame({"stage": [1, 2], "train_loss": [0.5, 0.4]}, index=[1, 2])
    >>> HistoryDisplay(frame).plot().boundary_.get_xdata()
    [1.5, 1.5]
    """

    def __init__(self, history: pd.DataFrame) -> None:
        self.history = history

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator with ``history_frame()``
            In a pipeline, its last step: ``pipeline[-1]``.
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.
        **kwargs
            As in `plot`.

        Returns
        -------
        HistoryDisplay
        """
        check_is_fitted(estimator)
        if not hasattr(estimator, "history_frame"):
            raise ValueError(
                f"{type(estimator).__name__} has no history_frame: pass a fitted ReweightedClassifier, of a pipeline "
                "its last step."
            )
        return cls(estimator.history_frame()).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, columns: str | Sequence[str] | None = None) -> Self:
        """Draw one line per column.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None: a new figure.
        columns : str, list of str or None, default=None
            What to draw. None: the losses, every column whose name ends in ``_loss``.

        Returns
        -------
        HistoryDisplay

        Raises
        ------
        ValueError
            Where the history has no such column.
        """
        frame = self.history
        chosen = [columns] if isinstance(columns, str) else columns
        if chosen is None:
            chosen = [name for name in frame.columns if str(name).endswith("_loss")]
        missing = [name for name in chosen if name not in frame.columns]
        if missing or not chosen:
            what = repr(missing[0]) if missing else "loss"
            raise ValueError(f"The history has no column {what}, got {', '.join(map(str, frame.columns))}.")
        self.ax_ = axes_for(type(self).__name__, ax)
        self.figure_ = self.ax_.figure
        self.lines_ = {
            name: self.ax_.plot(frame.index, frame[name], marker=".", label=name, color=colour(place))[0]
            for place, name in enumerate(chosen)
        }
        self.boundary_ = self._mark_stages()
        self.ax_.set(xlabel="epoch", ylabel=chosen[0] if len(chosen) == 1 else None)
        self.ax_.xaxis.get_major_locator().set_params(integer=True)
        self.ax_.legend()
        return self

    def _mark_stages(self) -> Any:
        stages = self.history["stage"]
        first = self.history.index[stages == 2]
        if not len(first) or not (stages == 1).any():
            return None
        between = float(first[0]) - 0.5
        line = self.ax_.axvline(between, color="0.4", linestyle="--", linewidth=1)
        for words, side, shift in (("stage 1 ", "right", -2), (" stage 2", "left", 2)):
            self.ax_.annotate(
                words,
                (between, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(shift, 3),
                textcoords="offset points",
                ha=side,
                va="bottom",
                color="0.4",
                fontsize="small",
            )
        return line

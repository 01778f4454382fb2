"""Average ranks over data sets, and which differences between them mean something (Demšar 2006)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from benchmarks.paper_tables.look import DPI, FONT, HUES, WIDTH, kind_of, name_of


def average_ranks(scores: pd.DataFrame) -> pd.Series:
    """Return the mean rank of each column over the rows, 1 for the highest score; ties share their ranks.

    Parameters
    ----------
    scores : DataFrame of shape (n_sets, n_methods)
    """
    ranks = rankdata(-scores.to_numpy(), axis=1)
    return pd.Series(ranks.mean(axis=0), index=scores.columns).sort_values()


def critical_difference(n_methods: int, n_sets: int, level: float = 0.05) -> float:
    """Return the difference of average ranks that Nemenyi's test calls significant.

    q_α √(k(k + 1)/(6N)) with q_α the quantile of the studentized range for infinite degrees of freedom,
    divided by √2.
    """
    q = studentized_range.ppf(1 - level, n_methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(n_methods * (n_methods + 1) / (6 * n_sets)))


def friedman_p(scores: pd.DataFrame) -> float:
    """Return the p-value of Friedman's test that all methods rank alike."""
    return float(friedmanchisquare(*scores.to_numpy().T).pvalue)


def cliques(ranks: pd.Series, difference: float) -> list[tuple[float, float]]:
    """Return first and last rank of each largest group whose ranks lie within the difference."""
    values = np.sort(ranks.to_numpy())
    reach = [values[(values >= v) & (values - v <= difference)] for v in values]
    spans = [(float(group[0]), float(group[-1])) for group in reach if len(group) > 1]
    return [a for a in spans if not any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in spans)]


def plot_ranks(panels: dict[str, pd.DataFrame], path: Path) -> None:
    """Draw a critical-difference diagram of each table of scores, one below the other.

    Names stand in two columns beside the axis, in the hue of their kind; bars join the methods whose ranks differ by
    less than the critical difference. Bars have a strip of their own between the axis and the names.
    """
    with rc_context(FONT):
        heights = [_height(scores) for scores in panels.values()]
        figure = Figure(figsize=(WIDTH, 0.2 * sum(heights)))
        tops = 1 - np.cumsum([0, *heights]) / sum(heights)
        for i, (title, scores) in enumerate(panels.items()):
            axis = figure.add_axes((0, tops[i + 1], 1, tops[i] - tops[i + 1]))
            _diagram(axis, title, scores, heights[i])
        figure.savefig(path, dpi=DPI)


def _height(scores: pd.DataFrame) -> float:
    """Return how many lines of text a panel takes."""
    ranked = average_ranks(scores)
    bars = cliques(ranked, critical_difference(scores.shape[1], len(scores)))
    return 6.0 + 0.6 * len(bars) + math.ceil(len(ranked) / 2)


def _diagram(axis: Axes, title: str, scores: pd.DataFrame, height: float) -> None:
    """Draw one panel; a unit upwards is a line of text, the rank axis takes the middle 40 % of the width."""
    ranked = average_ranks(scores)
    n, difference = len(ranked), critical_difference(scores.shape[1], len(scores))
    half = math.ceil(n / 2)
    scale = (n - 1) / 0.4
    left, right = 1 - 0.3 * scale, n + 0.3 * scale
    bars = cliques(ranked, difference)
    first_name = -0.9 - 0.6 * len(bars)
    for place, (name, rank) in enumerate(ranked.items()):
        on_left = place < half
        level = first_name - (place if on_left else n - 1 - place)
        side = 1 - 0.02 * scale if on_left else n + 0.02 * scale
        hue = HUES[kind_of(str(name))]
        axis.plot([rank, rank, side], [0, level, level], color=hue, linewidth=0.8)
        label = f"{name_of(str(name))}  {rank:.1f}" if on_left else f"{rank:.1f}  {name_of(str(name))}"
        axis.text(
            side - 0.01 * scale if on_left else side + 0.01 * scale, level, label, color=hue,
            ha="right" if on_left else "left", va="center_baseline",
        )  # fmt: skip
    for place, (first, last) in enumerate(bars):
        axis.plot(
            [first - 0.05, last + 0.05],
            [-0.6 * (place + 1)] * 2,
            color="0.25",
            linewidth=3,
            solid_capstyle="butt",
        )
    axis.hlines(0, 1, n, color="black", linewidth=0.8)
    for tick in range(1, n + 1):
        axis.plot([tick, tick], [0, 0.2], color="black", linewidth=0.8)
        axis.text(tick, 0.35, str(tick), ha="center", va="bottom")
    axis.plot([1, 1 + difference], [1.9, 1.9], color="0.25", linewidth=1.2, marker="|", markersize=6)
    axis.text(
        1 + difference + 0.02 * scale, 1.9, f"critical difference {difference:.1f}", va="center_baseline"
    )
    axis.text(left + 0.01 * scale, 3.3, title, ha="left", va="center", fontweight="bold")
    axis.set(xlim=(left, right), ylim=(4.2 - height, 4.2))
    axis.axis("off")

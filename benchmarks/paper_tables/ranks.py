"""Average ranks over data sets, and which differences between them mean something (Demšar 2006)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import friedmanchisquare, rankdata, studentized_range


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
    """Draw a critical-difference diagram of each table of scores, one below the other."""
    figure = Figure(figsize=(9, 2.6 * len(panels)), layout="constrained")
    for axis, (title, scores) in zip(
        figure.subplots(len(panels), squeeze=False).flat, panels.items(), strict=True
    ):
        ranks = average_ranks(scores)
        difference = critical_difference(scores.shape[1], len(scores))
        half = math.ceil(len(ranks) / 2)
        for place, (name, rank) in enumerate(ranks.items()):
            on_left = place < half
            height = -1.0 - (place if on_left else len(ranks) - 1 - place)
            side = 0.5 if on_left else len(ranks) + 0.5
            axis.plot([rank, rank, side], [0, height, height], color="black", lw=0.8)
            axis.text(side, height, f"{name} ({rank:.1f})", ha="right" if on_left else "left", va="center")
        for place, (first, last) in enumerate(cliques(ranks, difference)):
            axis.plot([first, last], [-0.25 - 0.25 * place] * 2, color="tab:blue", lw=3)
        axis.plot([1, 1 + difference], [0.8, 0.8], color="tab:red", lw=3)
        axis.text(1, 1.0, f"critical difference {difference:.1f}", va="bottom", fontsize="small")
        axis.hlines(0, 1, len(ranks), color="black", lw=1)
        for tick in range(1, len(ranks) + 1):
            axis.text(tick, 0.1, str(tick), ha="center", fontsize="small")
        axis.set(title=title, xlim=(-3, len(ranks) + 4), ylim=(-half - 1, 2.2))
        axis.axis("off")
    figure.savefig(path, dpi=120)

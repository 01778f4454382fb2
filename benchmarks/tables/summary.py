"""Means, spreads and ranks over sets and folds, as the report and the README show them."""

from __future__ import annotations

import pandas as pd

from benchmarks.paper_tables.ranks import average_ranks

#: Of these, less is better.
LOSSES = ("log_loss", "seconds")
#: How figures are called on pages.
NAMES = {
    "g_mean": "G-mean",
    "macro_f1": "macro-F1",
    "average_precision": "average precision",
    "log_loss": "log loss",
    "seconds": "CPU seconds",
}


def of_every_method(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the folds on which every method has run: means over others could not be compared."""
    rows = rows[~rows["error"].astype(bool)]
    n_methods = rows.groupby(["set", "seed"])["method"].transform("nunique")
    return rows[n_methods == rows["method"].nunique()]


def scores(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the means over the folds, sets by methods."""
    return rows.pivot_table(index="set", columns="method", values=name)


def higher_is_better(values: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the scores of a figure with their sign such that a rank of 1 is the best; `name` may have a prefix."""
    return -values if name.endswith(LOSSES) else values


def ranks(rows: pd.DataFrame, name: str) -> pd.Series:
    """Return each method's average rank over the sets, 1 for the best."""
    return average_ranks(higher_is_better(scores(rows, name), name))


def spread(rows: pd.DataFrame, name: str) -> pd.Series:
    """Return by method the standard deviation, over the folds that all sets have, of the mean over the sets.

    Sets of one fold among others of several (test rows of their own) are left out. NaN where there are fewer than two
    such folds.
    """
    methods = rows["method"].unique()
    rows = rows[rows.groupby("set")["seed"].transform("nunique") > 1]
    n_sets = rows["set"].nunique()
    by_fold = rows.groupby(["seed", "method"])[name].agg(["mean", "count"])
    whole = by_fold["mean"][by_fold["count"] == n_sets]
    return whole.groupby("method").std(ddof=1).reindex(methods)


def in_words(mean: float, std: float, digits: int = 3) -> str:
    """Return "mean ± standard deviation", or the mean alone where there is none."""
    return f"{mean:.{digits}f}" + ("" if pd.isna(std) else f" ± {std:.{digits}f}")


def n_folds(rows: pd.DataFrame) -> str:
    """Return how many folds the sets have: "3", or "1 to 5"."""
    counts = rows.groupby("set")["seed"].nunique()
    if counts.empty:
        return "0"
    return str(counts.min()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"

"""Claims that are compared draw by draw, from CSV files of single runs: the paper's own grid, and other decisions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.paper_grids.answers import Paired, on_all_draws, paired
from benchmarks.paper_grids.plan import TASKS, settings_of
from benchmarks.paper_tables.published import PUBLISHED
from benchmarks.paper_tables.runner import finished
from benchmarks.paper_tables.selection import at_defaults, best_on_test, best_on_validation, with_tuned_rows

PAIRS = (("ours", "Hu et al. + R"), ("ours", "two-phase"), ("Hu et al. + R", "two-phase"))
#: In words, whose rows are compared with the paper's way.
WAYS = {
    "ours": '"ours", 10 validation rows a class, the largest probability: the paper\'s way',
    "plain, tuned threshold": "plain network, threshold tuned on the validation rows",
    "ensemble of plain + validation rows": "plain networks in the ensemble, decided out of fold",
    "ensemble of ours + validation rows": '"ours" in the ensemble, decided out of fold',
    "ensemble + validation rows": "the ensemble's recipe, decided out of fold",
}


def difference(rows: pd.DataFrame, first: str, second: str) -> Paired:
    """Return the difference in accuracy between two methods."""
    return paired(*(rows[rows["method"] == method] for method in (first, second)))


def at_the_papers_grid(folder: Path) -> str:
    """Return a table of what the settings of the paper's grids that were run say of its ordering."""
    rows = on_all_draws(finished(folder / "grids.csv"))
    lines = []
    for task, block in rows.groupby("task", sort=False):
        table, column = TASKS[str(task)]
        published = PUBLISHED[table].get(column, {})
        tried = block.groupby("method")["config"].nunique()
        for first, second in PAIRS:
            if any(method not in tried or method not in published for method in (first, second)):
                continue
            theirs = published[first][0] - published[second][0]
            on_test, on_validation = (
                difference(choose(block), first, second) for choose in (best_on_test, best_on_validation)
            )
            settings = ", ".join(f"{tried[m]} of {len(settings_of(m))}" for m in (first, second))
            lines.append(
                f"| {first} beats {second} on {task} | {theirs:+.1f} | {on_test} | {on_validation} "
                f"| {settings}; {on_validation.draws} draws |"
            )
    head = "| claim | theirs, on test | ours, on test | ours, on validation | settings tried |\n"
    return head + "| --- | --- | --- | --- | --- |\n" + "\n".join(lines)


def other_decisions(folder: Path) -> str:
    """Return a table of ways to use the same rows, each beside the paper's."""
    path = folder / "decisions.csv"
    if not path.exists():
        return "Not run."
    rows = best_on_validation(with_tuned_rows(finished(path), ("plain, tuned threshold",)))
    lines = []
    for task, block in rows.groupby("task", sort=False):
        for method, words in WAYS.items():
            of_way = block[block["method"] == method]
            if of_way.empty:
                continue
            own, ranking = 100 * of_way["accuracy"], 100 * of_way["average_precision"]
            cell = "" if method == "ours" else str(difference(block, method, "ours"))
            lines.append(
                f"| {task} | {words} | {own.mean():.1f} ± {own.std(ddof=1):.1f} | {cell} | {len(own)} "
                f"| {ranking.mean():.1f} ± {ranking.std(ddof=1):.1f} |"
            )
    head = "| task | way | test accuracy | to the paper's way | draws | average precision |\n"
    return head + "| --- | --- | --- | --- | --- | --- |\n" + "\n".join(lines)


def on_reviews(folder: Path) -> str:
    """Return a table of ABSGD beside SGD on IMDB, at the default λ, which nothing was chosen by."""
    path = folder / "imdb.csv"
    if not path.exists():
        return "IMDB was not run."
    rows = at_defaults(finished(path))
    published = next(iter(PUBLISHED["imdb"].values()))
    lines = []
    for loss in ("CE", "Focal", "CB-CE", "CB-Focal"):
        pair = f"ABSGD ({loss})", f"SGD ({loss})"
        theirs = published[pair[0]][0] - published[pair[1]][0]
        ours = difference(rows, *pair)
        lines.append(f"| {pair[0]} beats {pair[1]} on IMDB | {theirs:+.1f} | {ours} | {ours.draws} |")
    return (
        "On [IMDB](imdb.md), as embeddings of half of the reviews where theirs is a bidirectional LSTM; λ = 1, the "
        "default; per cent points of test accuracy, paired over draws, ± standard error.\n\n"
        "| claim | theirs | ours, paired | draws |\n| --- | --- | --- | --- |\n" + "\n".join(lines)
    )


SECTIONS: dict[str, tuple[str, Callable[[Path], str]]] = {
    "At the paper's own grid": (
        "Settings of Liu et al., section 4.1, as far as [run](grids.md), chosen on test as the paper chose and "
        "on the validation rows that were learned from. Differences in per cent points, paired over draws, ± standard "
        "error.",
        at_the_papers_grid,
    ),
    "Beside the paper's way: other decisions, other uses of the rows": (
        "`python -m benchmarks.paper_tables liu5`, the same draws. Settings are chosen on the validation rows; the "
        "ensemble deals out training and validation rows alike, chooses nothing on test and decides by class shares on "
        "out-of-fold probabilities. Mean ± standard deviation over draws; the difference is paired, ± standard error.",
        other_decisions,
    ),
}

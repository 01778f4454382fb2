"""What the runs say, in words and differences: the paper's ordering, and what each way to choose a setting costs."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.paper_grids.plan import TASKS
from benchmarks.paper_tables.published import PUBLISHED
from benchmarks.paper_tables.runner import KEY
from benchmarks.paper_tables.selection import best_on_test, best_on_validation

SETTING = ["task", "method", "config"]


class Paired(NamedTuple):
    """Mean of paired differences in per cent points, its standard error, and the number of draws."""

    mean: float
    error: float
    draws: int

    def __str__(self) -> str:
        return f"{self.mean:+.1f}" if self.draws < 2 else f"{self.mean:+.1f} ± {self.error:.1f}"

    @property
    def verdict(self) -> int:
        """1 or -1 beyond two standard errors, else 0; with one draw always 0."""
        return int(np.sign(self.mean)) if self.draws > 1 and abs(self.mean) > 2 * self.error else 0


def on_all_draws(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out settings that lack a draw which another setting of their task and method has.

    Such a setting would be compared by the mean over fewer draws; those of a run that was cut off are.
    """
    draws = rows.groupby(SETTING)["seed"].transform("nunique")
    most = draws.groupby([rows["task"], rows["method"]]).transform("max")
    return rows[draws == most]


def cross_fitted(rows: pd.DataFrame, out_of_fold: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the settings with the best out-of-fold score, one for each task, method and draw."""
    scores = out_of_fold[[*KEY, "val_accuracy", "val_loss"]]
    joined = rows.drop(columns=["val_accuracy", "val_loss"]).merge(scores, on=KEY)
    return best_on_validation(joined)


def answers(rows: pd.DataFrame, out_of_fold: pd.DataFrame) -> str:
    """Return the part of the page that answers: does the ordering hold, what does the choice cost."""
    tasks = [str(task) for task in rows["task"].unique()]
    by_task = {task: rows[rows["task"] == task] for task in tasks}
    ordering = [_ordering(task, block) for task, block in by_task.items()]
    costs = [line for task, block in by_task.items() for line in _costs(task, block)]
    parts = [
        "## Does the paper's ordering hold at its own grid?",
        *[text for text in ordering if text],
        "## What does the choice on 10 rows cost?",
        "The mean of all settings is what one gets who draws a setting by lot. Differences in per cent points, paired "
        "over draws, ± standard error. Agreement: Spearman's rank correlation over the settings between accuracy on "
        "the validation rows and on the test rows, the mean over draws.\n\n"
        + _table(["task", "method", "settings", "mean of all", "chosen on validation - mean of all",
                  "chosen on test - on validation", "best on validation, tied", "agreement"], costs),
        _said_of_costs(rows),
    ]  # fmt: skip
    if len(out_of_fold):
        parts += ["### Cross-fitted", _cross_fitted(rows, out_of_fold)]
    return "\n\n".join(parts)


def paired(first: pd.DataFrame, second: pd.DataFrame) -> Paired:
    """Return the difference in test accuracy between two sets of rows, each with its mean over the rows of a draw."""
    one, other = (rows.groupby("seed")["accuracy"].mean() for rows in (first, second))
    both = 100 * (one - other).dropna()
    error = both.std(ddof=1) / np.sqrt(len(both)) if len(both) > 1 else np.nan
    return Paired(float(both.mean()), float(error), len(both))


def _ordering(task: str, rows: pd.DataFrame) -> str:
    """Return the order of the methods, theirs and ours, and every pair's difference."""
    table, column = TASKS[task]
    theirs = PUBLISHED[table].get(column, {})
    by_method = {str(m): block for m, block in best_on_test(rows).groupby("method") if m in theirs}
    if len(by_method) < 2:
        return ""
    chosen = {str(m): block for m, block in best_on_validation(rows).groupby("method")}
    means = {m: 100 * block["accuracy"].mean() for m, block in by_method.items()}
    ranked = sorted(by_method, key=lambda m: -theirs[m][0])
    both: list[tuple[str, str, Paired, Paired]] = [
        (first, second, paired(by_method[first], by_method[second]), paired(chosen[first], chosen[second]))
        for first, second in combinations(ranked, 2)
    ]
    lines = [
        [
            f"{first} - {second}",
            f"{theirs[first][0] - theirs[second][0]:+.1f}",
            str(on_test),
            str(on_validation),
        ]
        for first, second, on_test, on_validation in both
    ]
    ours = sorted(means, key=lambda m: -means[m])
    words = (
        f"**{task}.** Theirs: {', '.join(f'{m} {theirs[m][0]:.1f}' for m in ranked)}. Ours, chosen on test as theirs: "
        f"{', '.join(f'{m} {means[m]:.1f}' for m in ours)}. Chosen on test, "
        f"{_counted([(first, second, on_test) for first, second, on_test, _ in both])}. Chosen on validation, "
        f"{_counted([(first, second, valid) for first, second, _, valid in both])}."
    )
    return words + "\n\n" + _table(["pair", "theirs, on test", "ours, on test", "ours, on validation"], lines)


def _counted(pairs: list[tuple[str, str, Paired]]) -> str:
    """Return how many pairs, each in the paper's order, lie in it, and which the other way."""
    held = sum(one.verdict > 0 for _, _, one in pairs)
    against = ", ".join(f"{second} before {first}" for first, second, one in pairs if one.verdict < 0)
    return (
        f"{sum(one.mean > 0 for _, _, one in pairs)} of {len(pairs)} pairs lie in the paper's order, {held} of them by "
        f"more than two standard errors; the other way by as much: {against or 'none'}"
    )


def _costs(task: str, rows: pd.DataFrame) -> list[list[str]]:
    lines = []
    for method, block in rows.groupby("method", sort=False):
        n = block["config"].nunique()
        if n < 2:
            continue
        valid = best_on_validation(block)
        draws = [own for _, own in block.groupby("seed")]
        tied = np.mean([(own["val_accuracy"] == own["val_accuracy"].max()).sum() for own in draws])
        defined = [
            own["val_accuracy"].corr(own["accuracy"], method="spearman")
            for own in draws
            if min(own["val_accuracy"].nunique(), own["accuracy"].nunique()) > 1
        ]
        words = f"{np.mean(defined):+.2f}" if defined else "–"
        mean = 100 * block.groupby("seed")["accuracy"].mean().mean()
        lines.append([task, str(method), str(n), f"{mean:.1f}", str(paired(valid, block)),
                      str(paired(best_on_test(block), valid)), f"{tied:.0f}", words])  # fmt: skip
    return lines


def _said_of_costs(rows: pd.DataFrame) -> str:
    """Return, over all tasks and methods of many settings, what choosing on the validation rows brought."""
    brought, cost = [], []
    for _, block in rows.groupby(["task", "method"], sort=False):
        if block["config"].nunique() >= 10:
            valid = best_on_validation(block)
            brought.append(paired(valid, block))
            cost.append(paired(best_on_test(block), valid))
    if not brought:
        return "No method has ten settings or more."
    better, worse = (sum(one.verdict == sign for one in brought) for sign in (1, -1))
    return (
        f"Of {len(brought)} grids of ten settings and more, the choice on the validation rows was better than a "
        f"setting by lot by more than two standard errors in {better}, worse by as much in {worse}; figures chosen on "
        f"test are "
        f"{min(c.mean for c in cost):.1f} to {max(c.mean for c in cost):.1f} points above those chosen on validation."
    )


def _cross_fitted(rows: pd.DataFrame, out_of_fold: pd.DataFrame) -> str:
    """Return each way of choosing among the settings that have an out-of-fold score, and no others."""
    keys = out_of_fold[["task", "method", "config", "seed"]]
    same = on_all_draws(rows.merge(keys, on=["task", "method", "config", "seed"]))
    lines = []
    for (task, method), block in same.groupby(["task", "method"], sort=False):
        if block["config"].nunique() < 2:
            continue
        ways = cross_fitted(block, out_of_fold), best_on_validation(block), best_on_test(block)
        accuracies = [100 * way["accuracy"].mean() for way in ways]
        lines.append([str(task), str(method), f"{block['config'].nunique()}; {block['seed'].nunique()}",
                      f"{100 * block['accuracy'].mean():.1f}", *(f"{a:.1f}" for a in accuracies),
                      str(paired(ways[0], ways[1])), str(paired(ways[2], ways[0]))])  # fmt: skip
    return (
        "All ways choose among the same settings here, those that have an out-of-fold score.\n\n"
        + _table(["task", "method", "settings; draws", "mean of all", "cross-fitted", "on validation", "on test",
                  "cross-fitted - on validation", "on test - cross-fitted"], lines)
    )  # fmt: skip


def _table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])

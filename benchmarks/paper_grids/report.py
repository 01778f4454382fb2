"""The page of the grids: each way of choosing a setting beside the others, and what the whole grid would take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.paper_grids.answers import answers, cross_fitted, on_all_draws
from benchmarks.paper_grids.fits import N_FOLDS
from benchmarks.paper_grids.plan import CONSTRAINT_STEPS, METHODS, TASKS, settings_of
from benchmarks.paper_tables.published import PUBLISHED
from benchmarks.paper_tables.selection import at_defaults, best_on_test, best_on_validation, mean_and_std

STEPS = "weighting__n_constraint_steps"


def write_report(rows: pd.DataFrame, out_of_fold: pd.DataFrame, path: Path, commands: Sequence[str]) -> Path:
    """Write the page; return its path."""
    whole = on_all_draws(rows)
    tables = [
        f"### {task}\n\n{_table(block, out_of_fold, str(task))}"
        for task, block in whole.groupby("task", sort=False)
    ]
    parts = [
        "# The paper's own grids (Liu et al., section 4.1)",
        "```text\n" + "\n".join(commands) + "\n```",
        f"{len(rows)} fits and {len(out_of_fold)} cross-fitted ones of {N_FOLDS} folds, "
        f"{(rows['seconds'].sum() + out_of_fold['seconds'].sum()) / 60:.1f} CPU minutes. Test "
        "accuracy in per cent, mean ± standard deviation over draws. Chosen on validation: each draw for itself, by "
        "the validation rows that were learned from (accuracy, then loss). Chosen on test: one setting for all draws, "
        "by their mean test accuracy, as the paper did, and too good. Cross-fitted: every draw for itself, by the "
        "balanced accuracy (then loss) of out-of-fold predictions of its training and validation rows, among the "
        "settings that have one. Networks, features and files differ from the paper's ([how](paper_tables.md)).",
        answers(whole, out_of_fold),
        "## The figures",
        *tables,
        "## What was not run, and what the whole would take\n\n" + _missing(rows) + "\n\n" + _whole(rows),
    ]
    failed = rows[rows["error"].astype(bool)]
    if len(failed):
        counts = failed.groupby(["task", "method", "error"], sort=False).size()
        parts.append(
            "## Failures\n\n" + "\n".join(f"- {t}, {m}: {e} ({n} fits)" for (t, m, e), n in counts.items())
        )
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _table(rows: pd.DataFrame, out_of_fold: pd.DataFrame, task: str) -> str:
    methods = list(rows["method"].unique())
    defaults = pd.DataFrame(columns=rows.columns) if not len(rows) else at_defaults(rows)
    ways = {
        "chosen on validation": best_on_validation(rows),
        "cross-fitted": cross_fitted(rows, out_of_fold),
        "default setting": defaults,
        "chosen on test": best_on_test(rows),
    }
    columns = {name: _cells(chosen, methods) for name, chosen in ways.items()}
    table, column = TASKS[task]
    theirs = PUBLISHED[table].get(column, {})
    columns["published, chosen on test"] = [_cell(*theirs[m]) if m in theirs else "–" for m in methods]
    tried = rows.groupby("method")["config"].nunique()
    columns["settings of the paper's"] = [
        f"{tried[m]} of {len(settings_of(m))}{_steps_in_words(rows[rows['method'] == m])}" for m in methods
    ]
    columns["draws"] = [str(rows.loc[rows["method"] == m, "seed"].nunique()) for m in methods]
    lines = [["method", *columns], ["---"] * (1 + len(columns))]
    lines += [[m, *(columns[name][k] for name in columns)] for k, m in enumerate(methods)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def steps_of(rows: pd.DataFrame) -> set[int | None]:
    """Return the T' among some runs; None for a method without."""
    return set(steps_in(rows))


def steps_in(rows: pd.DataFrame) -> list[int | None]:
    """Return T' of each run; None for a method without."""
    return [json.loads(config).get(STEPS) for config in rows["config"]]


def _steps_in_words(rows: pd.DataFrame) -> str:
    steps = sorted(s for s in steps_of(rows) if s is not None)
    return f", T' = {', '.join(map(str, steps))}" if steps else ""


def _missing(rows: pd.DataFrame) -> str:
    """What five draws of every task, method and setting are, how much of it is here, and the command for the rest."""
    whole = 5 * len(TASKS) * sum(len(settings_of(method)) for method in METHODS)
    without = [task for task in TASKS if task not in set(rows["task"])]
    words = f"Nothing was run of {', '.join(without)}. " if without else ""
    return (
        f"{words}{len(rows)} of {whole:,} fits (five draws of {len(TASKS)} tasks, every method and setting) are here. "
        "The rest, which goes on from the CSV files that lie in --out:\n\n"
        "```text\npython -m benchmarks.paper_tables grids --draws 5 --constraint-steps "
        f"{' '.join(map(str, CONSTRAINT_STEPS))} --cross-fitted --out docs/results\n```"
    )


def _cells(chosen: pd.DataFrame, methods: list[str]) -> list[str]:
    if chosen.empty:
        return ["–"] * len(methods)
    figures = mean_and_std(chosen, "accuracy").reset_index().set_index("method")
    return [_cell(*figures.loc[m, ["mean", "std"]]) if m in figures.index else "–" for m in methods]


def _cell(mean: float, std: float = float("nan")) -> str:
    if pd.isna(mean):
        return "failed"
    return f"{mean:.1f}" if pd.isna(std) else f"{mean:.1f} ± {std:.1f}"


def _whole(rows: pd.DataFrame) -> str:
    """CPU minutes of a draw at the seconds a fit took here; T' that were not run grow in proportion to the others'."""
    lines = []
    for (task, method), block in rows.groupby(["task", "method"], sort=False):
        wanted = [s.get(STEPS, 0) for s in settings_of(method)]
        seen = block.assign(steps=[json.loads(c).get(STEPS, 0) for c in block["config"]])
        seconds = seen.groupby("steps")["seconds"].mean()
        known = dict(zip(seconds.index, seconds, strict=True))
        if 1 in known:
            slope = (known[5] - known[1]) / 4 if 5 in known else np.nan
            known |= {t: known[1] + slope * (t - 1) for t in CONSTRAINT_STEPS if t not in known}
        minutes = sum(known[t] for t in wanted) / 60
        words = "unknown: T' = 5 was not run" if np.isnan(minutes) else f"{minutes:.1f}"
        lines.append(f"| {task} | {method} | {len(wanted)} | {block['seconds'].mean():.2f} | {words} |")
    head = "| task | method | settings | CPU seconds a fit | CPU minutes a draw |\n| --- | --- | --- | --- | --- |\n"
    return head + "\n".join(lines)

"""A scenario as Markdown: what learned weights bring over the best of the others, and every figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.trusted.draws import TRAINING_ROWS
from benchmarks.trusted.methods import METHODS
from benchmarks.trusted.scenarios import CONTROLS, LEARNED, SCENARIOS, Scenario
from benchmarks.trusted.summary import coverage, in_short, pairs

DRAW = ["set", "seed"]


def write_report(name: str, rows: pd.DataFrame, path: Path, note: str = "") -> Path:
    """Write the page of the runs of a scenario; return its path."""
    scenario = SCENARIOS[name]
    order = {condition: k for k, condition in enumerate(scenario.conditions)}
    rows = rows.sort_values("condition", key=lambda column: column.map(order), kind="stable")
    made = "\n".join(commands(name, rows))
    every, failed = rows, rows[rows["error"].astype(bool)]
    rows = rows[~rows["error"].astype(bool)]
    sets = ", ".join(rows["set"].unique())
    parts = [
        f"# {scenario.title}",
        f"```text\n{made}\n```",
        f"{len(rows)} fits on {sets}; {rows['seed'].nunique()} draws of each, {rows['seconds'].sum() / 60:.1f} CPU "
        f"minutes in all. At most {TRAINING_ROWS[1]} rare and {TRAINING_ROWS[0]} common training rows, the same for "
        f"every number of validation rows. {scenario.note}",
    ]
    parts += [note] if note else []
    figures = {f: words for f, words in scenario.figures.items() if rows[f].notna().any()}
    tables = {words: leads(rows, figure) for figure, words in figures.items()}
    parts.append(in_short({words: table for words, table in tables.items() if len(table)}))
    ranked = [m for m in METHODS if rows.loc[rows["method"] == m, list(figures)].notna().any(axis=None)]
    parts.append(coverage(every, scenario, ranked))
    for figure, words in figures.items():
        parts += [
            f"## {words[0].upper()}{words[1:]}",
            pairs(rows, figure),
            _leads(tables[words]),
            _table(rows, figure),
        ]
    parts = [part for part in parts if part] + _chance(rows, scenario)
    if len(failed):
        parts.append(f"## Not run\n\n{_failures(failed)}")
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def commands(name: str, rows: pd.DataFrame) -> list[str]:
    """Return commands that make these runs, no more and no less; folders are everyone's to choose."""
    found = []
    for one, of_set in rows.groupby("set", sort=False):
        alike: dict[tuple[str, ...], list[str]] = {}
        for method, own in of_set.groupby("method", sort=False):
            by_conditions: dict[tuple[str, str], list[str]] = {}
            for n, of_size in own.groupby("n_validation"):
                key = str(of_size["seed"].nunique()), _words(of_size["condition"])
                by_conditions.setdefault(key, []).append(str(n))
            for (seeds, conditions), sizes in by_conditions.items():
                alike.setdefault((seeds, " ".join(sizes), conditions), []).append(str(method))
        for (seeds, sizes, conditions), methods in alike.items():
            found.append(
                f"python -m benchmarks.paper_tables {name} --seeds {seeds} --sets {one} --sizes {sizes} "
                f"--conditions {conditions} --methods {_words(pd.Series(methods))}"
            )
    return found


def _words(values: pd.Series) -> str:
    return " ".join(f"'{word}'" if " " in word else word for word in values.astype(str).unique())


def leads(rows: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Return by number of validation rows and condition how far the best learned weighting is before the best other.

    Both are the best by their mean over sets and draws, that is, chosen on the test rows. "lead" is the
    mean of the paired differences over sets and draws in per cent points, "error" its standard error. Methods that
    lack a draw of a condition are left out of it.
    """
    found = []
    rows = rows.sort_values("n_validation", kind="stable")
    for (n, condition), block in rows.groupby(["n_validation", "condition"], sort=False):
        wide = block.pivot_table(index=DRAW, columns="method", values=figure).dropna(axis=1)
        learned, others = ([m for m in kind if m in wide] for kind in (LEARNED, CONTROLS))
        if not learned or not others or len(wide) < 2:
            continue
        best, other = wide[learned].mean().idxmax(), wide[others].mean().idxmax()
        difference = 100 * (wide[best] - wide[other])
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        by_set = ", ".join(
            f"{k} {v:+.1f}" for k, v in difference.groupby(level="set", sort=False).mean().items()
        )
        found.append((n, condition, best, other, difference.mean(), error, len(difference), by_set))
    names = ["n_validation", "condition", "learned", "other", "lead", "error", "draws", "by_set"]
    return pd.DataFrame(found, columns=names)


def _leads(table: pd.DataFrame) -> str:
    if table.empty:
        return "No condition has learned weights and another method on the same draws."
    clear = int((table["lead"] > 2 * table["error"]).sum())
    behind = int((table["lead"] < -2 * table["error"]).sum())
    lines = [
        f"| {r.n_validation} | {r.condition} | {r.learned} | {r.other} | {r.lead:+.1f} ± {r.error:.1f} | {r.draws} "
        f"| {r.by_set} |"
        for r in table.itertuples()
    ]
    return (
        f"The best learned weighting beside the best other method, both chosen on test, paired over sets and draws "
        f"(per cent points ± standard error, pairs taken as "
        f"independent): ahead by more than two standard errors in {clear} of {len(table)} "
        f"conditions, behind by as much in {behind}.\n\n"
        "| validation rows a class | training rows | learned | other | lead | pairs | by set |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n" + "\n".join(lines)
    )


def _table(rows: pd.DataFrame, figure: str) -> str:
    """The mean over sets of each draw; a set that has not the size is in no row, a method that lacks one has none."""
    conditions, rows = list(rows["condition"].unique()), rows[rows[figure].notna()]
    lines = [["validation rows a class", "method", *conditions], ["---"] * (2 + len(conditions))]
    absent = []
    for n, block in rows.groupby("n_validation"):
        absent += _without(rows, block, f"at {n}")
        for method in sorted(block["method"].unique()):
            own = block[block["method"] == method]
            cells = [
                _cell(own[own["condition"] == c], block.loc[block["condition"] == c, "set"].unique(), figure)
                for c in conditions
            ]
            lines.append([str(n), method, *cells])
    words = "Per cent: the mean over sets, ± its standard deviation over draws."
    words += f" Without {'; '.join(absent)}." if absent else ""
    return "\n\n".join(
        [words, "\n".join("| " + " | ".join(line) + " |" for line in lines), *_on_fewer_sets(rows, figure)]
    )


def _without(rows: pd.DataFrame, block: pd.DataFrame, where: str) -> list[str]:
    """Return which sets some conditions of a size lack; the mean over sets is then of others than beside it."""
    lacking: dict[str, list[str]] = {}
    for condition, own in block.groupby("condition", sort=False):
        if missing := sorted(set(rows["set"]) - set(own["set"])):
            lacking.setdefault(", ".join(missing), []).append(str(condition))
    whole = block["condition"].nunique()
    return [
        f"{sets} {where}" + ("" if len(conditions) == whole else f" ({', '.join(conditions)})")
        for sets, conditions in lacking.items()
    ]


def _on_fewer_sets(rows: pd.DataFrame, figure: str) -> list[str]:
    """Return a list of the methods that were not run on all sets, each beside those that learn, on the sets it has."""
    lines = []
    for (n, condition), block in rows.groupby(["n_validation", "condition"], sort=False):
        for method, own in block.groupby("method", sort=False):
            sets = own["set"].unique()
            if set(sets) == set(block["set"]):
                continue
            beside = [m for m in (method, "two-phase", *LEARNED) if m in set(block["method"])]
            words = [
                f"{m} {_cell(block[block['method'].eq(m) & block['set'].isin(sets)], sets, figure)}"
                for m in beside
            ]
            lines.append(
                f"- {n} validation rows a class, {condition}, {' and '.join(sets)} alone: {', '.join(words)}"
            )
    return ["\n".join(lines)] if lines else []


def _cell(own: pd.DataFrame, sets: Sequence[str], figure: str) -> str:
    wide = own.pivot_table(index="seed", columns="set", values=figure)
    if wide.empty or set(wide) != set(sets):
        return "–"
    means = 100 * wide.dropna().mean(axis=1)
    return f"{means.mean():.1f}" if len(means) < 2 else f"{means.mean():.1f} ± {means.std(ddof=1):.1f}"


def _chance(rows: pd.DataFrame, scenario: Scenario) -> list[str]:
    """Return what guessing has, where rows are ranked."""
    if "found_missed" not in scenario.figures:
        return []
    shares = rows.groupby("condition", sort=False)[["wrong_missed", "wrong_false"]].mean() * 100
    lines = [
        f"| {condition} | " + " | ".join("–" if pd.isna(v) else f"{v:.1f}" for v in values) + " |"
        for condition, values in zip(shares.index, shares.to_numpy(), strict=True)
    ]
    head = "| training rows | labelled common | labelled rare |\n| --- | --- | --- |\n"
    return ["## What guessing has: the share of wrong labels, %", head + "\n".join(lines)]


def _failures(failed: pd.DataFrame) -> str:
    """Return each error of a set and size once; where only the number at its end differs, that as a range."""
    most = failed["error"].str.extract(r"at most (\d+) here")[0].astype(float)
    failed = failed.assign(
        most=most, error=failed["error"].str.replace(r"at most \d+ here", "at most {} here", regex=True)
    )
    lines = []
    for (name, n, error), block in failed.groupby(["set", "n_validation", "error"], sort=False):
        ends = block["most"].agg(["min", "max"]).dropna().astype(int).unique()
        words = str(error).replace("{}", " to ".join(map(str, ends)))
        lines.append(f"- {name}, {n} validation rows a class: {words} ({len(block)} runs)")
    return "\n".join(lines)

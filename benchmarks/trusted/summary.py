"""A scenario's runs at a glance: where learned weights lead, pair by pair, and what of the whole cross is there."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmarks.trusted.draws import SIZES
from benchmarks.trusted.scenarios import CONTROLS, LEARNED, SETS, Scenario

CELL = ["set", "n_validation", "condition", "seed"]
#: Controls that others only vary, beside which nothing need be said.
OTHERS = tuple(m for m in (*CONTROLS, "proportion + v") if m != "pruned, none")


def kind(condition: str) -> str:
    """Return a condition of noise without its share, "missed" of "missed 30 %"; another as it is."""
    word = condition.split()[0]
    return word if word in ("missed", "false", "symmetric") else condition


def pairs(rows: pd.DataFrame, figure: str) -> str:
    """Return a table of each learned weighting less each other method, over all that both were run on.

    Nothing is chosen. A draw's difference is the mean over its sets, sizes and conditions of a kind.
    """
    rows = rows[rows[figure].notna()]
    wide = rows.pivot_table(index=CELL, columns="method", values=figure)
    kinds = list(dict.fromkeys(kind(c) for c in rows["condition"]))
    lines = []
    for first in (m for m in LEARNED if m in wide):
        for second in (m for m in OTHERS if m in wide):
            both = 100 * (wide[first] - wide[second]).dropna()
            of_kind = both.index.get_level_values("condition").map(kind)
            cells = [_over_draws(both[of_kind == k]) for k in kinds]
            if any(cell != "–" for cell in cells):
                lines.append(f"| {first} - {second} | {' | '.join(cells)} |")
    if not lines:
        return ""
    head = f"| difference | {' | '.join(kinds)} |\n| --- |{' --- |' * len(kinds)}\n"
    return (
        "Pair by pair, nothing chosen: per cent points, mean over the sets, sizes and strengths that both were run on, "
        "± standard deviation over draws, in brackets the number of these.\n\n" + head + "\n".join(lines)
    )


def _over_draws(differences: pd.Series) -> str:
    if differences.empty:
        return "–"
    by_draw = differences.groupby(level="seed").mean()
    n = differences.groupby(level=["set", "n_validation", "condition"]).ngroups
    spread = f" ± {by_draw.std(ddof=1):.1f}" if len(by_draw) > 1 else ""
    return f"{by_draw.mean():+.1f}{spread} ({n})"


def in_short(tables: dict[str, pd.DataFrame]) -> str:
    """Return for each figure and kind of condition the mean lead of the best learned weighting over the best other.

    ``tables`` are what `leads` returns, by the figure's words.
    """
    kinds = list(dict.fromkeys(kind(c) for table in tables.values() for c in table["condition"]))
    lines = []
    for words, table in tables.items():
        of_kind = table["condition"].map(kind)
        lines.append(f"| {words} | {' | '.join(_lead(table[of_kind == k]) for k in kinds)} |")
    head = f"| figure | {' | '.join(kinds)} |\n| --- |{' --- |' * len(kinds)}\n"
    return (
        "## In short\n\nThe lead of the best learned weighting over the best other method, both chosen on test for "
        "each number of validation rows and condition: the mean of these leads in per cent points, and how many of "
        "them are ahead and behind by more than two standard errors (about one in twenty would be, one way or the "
        "other, where there is nothing).\n\n" + head + "\n".join(lines)
    )


def _lead(table: pd.DataFrame) -> str:
    if table.empty:
        return "–"
    ahead, behind = ((sign * table["lead"] > 2 * table["error"]).sum() for sign in (1, -1))
    return f"{table['lead'].mean():+.1f}; {ahead} ahead, {behind} behind of {len(table)}"


def coverage(rows: pd.DataFrame, scenario: Scenario, methods: Sequence[str]) -> str:
    """Return how much of sets x conditions there is for each method and number of validation rows.

    ``rows`` hold those that were refused as well: a set that has too few rows for a size is not missing.
    """
    done = rows[~rows["error"].astype(bool)]
    size = ["set", "condition", "n_validation"]
    refused = rows.loc[rows["error"].str.contains("leave too few"), size].drop_duplicates()
    # Where some draws have rows enough, there is something.
    some = refused.merge(done[size].drop_duplicates(), how="left", on=size, indicator=True)
    without = dict(list(some[some["_merge"] == "left_only"].groupby("n_validation")))
    lines = []
    for method in methods:
        cells = []
        for n in SIZES:
            of = done[done["method"].eq(method) & done["n_validation"].eq(n)]
            n_refused = len(without.get(n, ()))
            here = of[["set", "condition"]].drop_duplicates()
            cells.append(f"{len(here)} of {len(SETS) * len(scenario.conditions) - n_refused}")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    head = f"| method | {' | '.join(f'{n} rows a class' for n in SIZES)} |\n| --- |{' --- |' * len(SIZES)}\n"
    short = "; ".join(
        f"{n}: {', '.join(sorted(block['set'].unique()))}" for n, block in sorted(without.items())
    )
    said = (
        f" Too few rows of some class or group, in all draws of some condition at least, by size: {short}."
        if short
        else ""
    )
    return (
        f"## What is here of the whole cross\n\nSets times conditions of {len(SETS)} sets and "
        f"{len(scenario.conditions)} conditions, less those that have too few rows for the size.{said}\n\n"
        + head
        + "\n".join(lines)
    )

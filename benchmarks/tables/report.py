"""The table with ranks, and the diagram of their critical difference."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.paper_tables.figures import critical_differences
from benchmarks.paper_tables.look import stamp
from benchmarks.paper_tables.ranks import average_ranks
from benchmarks.tables.development import SETS as DEVELOPMENT_SETS
from benchmarks.tables.evaluation import FIGURES
from benchmarks.tables.summary import (
    NAMES,
    higher_is_better,
    in_words,
    n_folds,
    of_every_method,
    scores,
    spread,
)

#: The rows as users type them, as far as they fit into the figure.
TYPED = {
    "ensemble": "ReweightedEnsemble",
    "network": "proportion",
    "network, ours": "ours",
    "boosted trees, balanced": "HistGB, balanced",
    "MLP": "MLPClassifier",
    "logistic regression, balanced": "LogisticRegression",
    "balanced forest": "BalancedRandomForest",
}
TITLES = {
    "": "As each method decides by itself",
    "fair_": "Calibrated and decided on out-of-fold predictions, all alike (seconds with the fits for these)",
}
DEVELOPMENT = (
    f"The ensemble's recipe and the network's defaults were chosen on {', '.join(DEVELOPMENT_SETS)}, on halves of "
    "all their rows"
)


#: The heading of what is written by hand.
OUR_WORDS = "## Aims, and what was tried"


def write_report(rows: pd.DataFrame, out: Path, command: str) -> Path:
    """Write `tables.md` and `tables.png`; return the path of the former. Its section `OUR_WORDS` stays as it is."""
    failed = rows[rows["error"].astype(bool)]
    rows = of_every_method(rows)
    methods = rows["method"].unique()
    whole = sorted(rows["set"].unique())
    several = not rows.empty and spread(rows, FIGURES[0]).notna().all()
    parts = [
        "# Whole tables",
        f"`{command}`: {len(whole)} sets, {n_folds(rows)} fold(s) of five each; mean over the sets"
        + (" ± standard deviation over the folds" if several else "")
        + f" (average rank of {len(methods)}). G-mean and macro-F1 have each a decision of their own in the second "
        "table. Last column: the mean rank by G-mean, average precision and log loss."
        + ("" if several else " One fold has no deviation."),
    ]
    untouched = [name for name in whole if name not in DEVELOPMENT_SETS]
    if 0 < len(untouched) < len(whole):
        parts.append(f"{DEVELOPMENT}: behind the semicolon stands the average rank without them.")
    parts += _times(rows)
    panels = {}
    for prefix, title in TITLES.items():
        # Decided out of fold like all others, trees with a tuned threshold are the trees themselves.
        shown = [m for m in methods if not (prefix and m == "boosted trees, tuned")]
        block = rows[rows["method"].isin(shown)]
        table, ranked = pd.DataFrame(index=shown), {}
        for name in (*FIGURES, "seconds"):
            if block.empty:
                continue
            values, deviations = scores(block, prefix + name), spread(block, prefix + name)
            ranked[name] = higher_is_better(values, name)
            if name == "seconds":
                table[NAMES[name]] = [f"{values[m].mean():.2f}" for m in shown]
                continue
            ranks = average_ranks(ranked[name])
            cells = {m: f"{in_words(values[m].mean(), deviations[m])} ({ranks[m]:.1f}" for m in shown}
            if 0 < len(untouched) < len(whole):
                others = average_ranks(ranked[name].loc[untouched])
                cells = {m: f"{cell}; {others[m]:.1f}" for m, cell in cells.items()}
            table[NAMES[name]] = [f"{cell})" for cell in cells.values()]
        of_three = [average_ranks(ranked[n]) for n in FIGURES if n != "macro_f1" and n in ranked]
        if of_three:
            table["rank, mean of three"] = [f"{sum(r[m] for r in of_three) / 3:.2f}" for m in table.index]
        parts += [
            f"## {title}",
            table.to_markdown(disable_numparse=True)
            if len(table.columns)
            else "No set has every method yet.",
        ]
        panels |= {
            NAMES[name]: s.rename(columns=TYPED) for name, s in ranked.items() if prefix and name != "seconds"
        }
    parts += [f"{len(failed)} runs failed: " + "; ".join(sorted(set(failed["error"])))] if len(failed) else []
    if panels and len(methods) > 1 and len(whole) > 1:
        drawn = critical_differences(panels, out / "tables.png")
        words = f"Of the second table. {_typed(methods)}"
        if (figures := out / "tables.csv").exists():
            stamp(out / "tables.png", figures)
        parts.append(drawn._replace(caption=f"{drawn.caption} {words}").markdown("tables.png"))
    path = out / "tables.md"
    _, found, words = (path.read_text(encoding="utf-8") if path.exists() else "").partition(OUR_WORDS)
    parts += [found + words.rstrip()] if found else []
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _times(rows: pd.DataFrame) -> list[str]:
    """How long the ensemble takes beside balanced boosting, on the benchmark's sets."""
    rows = rows[rows["set"] != "aps"]
    if not {"ensemble", "boosted trees, balanced"} <= set(rows["method"]):
        return []
    seconds = scores(rows, "seconds")
    own, trees = seconds["ensemble"], seconds["boosted trees, balanced"]
    return [
        f"On the {len(seconds)} sets without APS the fits of the ensemble take {own.sum() / trees.sum():.1f} times as "
        f"long as those of boosted trees with balanced weights, {(own / trees).median():.1f} times in the median of "
        "them: processor seconds of one thread, with what else the machine did at the time."
    ]


def _typed(methods: list[str]) -> str:
    """Return which names of the figure are which rows of the table."""
    return "Names: " + ", ".join(f"{TYPED[m]} is “{m}”" for m in methods if m in TYPED) + "."

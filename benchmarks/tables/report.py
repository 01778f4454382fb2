"""The table with ranks, and the diagram of their critical difference."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.paper_tables.ranks import average_ranks, plot_ranks
from benchmarks.tables.development import SETS as DEVELOPMENT_SETS
from benchmarks.tables.evaluation import FIGURES

#: Of these, less is better.
LOSSES = ("log_loss", "seconds")
#: Names that fit into the figure.
SHORT = {"boosted trees, balanced": "trees, balanced", "logistic regression, balanced": "logistic, balanced"}
TITLES = {
    "": "As each method decides by itself",
    "fair_": "Calibrated and decided on out-of-fold predictions, all alike (seconds with the fits for these)",
}


def write_report(rows: pd.DataFrame, out: Path, command: str) -> Path:
    """Write `tables.md` and `tables.png`; return the path of the former."""
    failed = rows[rows["error"].astype(bool)]
    rows = rows[~rows["error"].astype(bool)]
    methods = rows["method"].unique()
    rows = _of_every_method(rows)
    whole = sorted(rows["set"].unique())
    n_folds = sorted({0} if rows.empty else set(rows.groupby("set")["seed"].nunique()))
    parts = [
        "# Whole tables",
        f"`{command}`: {len(whole)} sets, {' or '.join(map(str, n_folds))} fold(s) of five each; mean over the "
        f"sets (average rank of {len(methods)}). G-mean and macro-F1 have each a decision of their own in the "
        "second table. "
        "Last column: the mean rank by G-mean, average precision and log loss. One fold has no deviation.",
    ]
    untouched = [name for name in whole if name not in DEVELOPMENT_SETS]
    if 0 < len(untouched) < len(whole):
        parts.append(
            f"The ensemble's recipe and the network's defaults were chosen on {', '.join(DEVELOPMENT_SETS)}, on halves "
            "of all their rows: behind the semicolon stands the average rank without them."
        )
    panels = {}
    for prefix, title in TITLES.items():
        # Decided out of fold like all others, trees with a tuned threshold are the trees themselves.
        shown = [m for m in methods if not (prefix and m == "boosted trees, tuned")]
        table, ranked = pd.DataFrame(index=shown), {}
        for name in (*FIGURES, "seconds"):
            scores = _scores(rows[rows["method"].isin(shown)], prefix + name).loc[whole]
            if scores.empty:
                continue
            ranked[name] = -scores if name in LOSSES else scores
            ranks = average_ranks(ranked[name])
            table[name] = [f"{scores[m].mean():.3f} ({ranks[m]:.1f})" for m in table.index]
            if 0 < len(untouched) < len(whole):
                others = average_ranks(ranked[name].loc[untouched])
                table[name] = [f"{cell[:-1]}; {others[m]:.1f})" for m, cell in table[name].items()]
            if name == "seconds":
                table[name] = [f"{scores[m].mean():.2f}" for m in table.index]
        of_three = [average_ranks(ranked[n]) for n in FIGURES if n != "macro_f1" and n in ranked]
        if of_three:
            table["rank, mean of three"] = [f"{sum(r[m] for r in of_three) / 3:.2f}" for m in table.index]
        parts += [
            f"## {title}",
            table.to_markdown() if len(table.columns) else "No set has every method yet.",
        ]
        panels |= {
            name: s.rename(columns=SHORT) for name, s in ranked.items() if prefix and name != "seconds"
        }
    parts += [f"{len(failed)} runs failed: " + "; ".join(sorted(set(failed["error"])))] if len(failed) else []
    if panels and len(methods) > 1 and len(whole) > 1:
        plot_ranks(panels, out / "tables.png")
        parts.append("![Average ranks with their critical difference](tables.png)")
        parts.append(
            "The figure: the second table. Bars join what differs by less than Nemenyi's critical difference."
        )
    path = out / "tables.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _of_every_method(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the folds on which every method has run: means over others could not be compared."""
    n_methods = rows.groupby(["set", "seed"])["method"].transform("nunique")
    return rows[n_methods == rows["method"].nunique()]


def _scores(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Means over the folds, sets by methods."""
    return rows.pivot_table(index="set", columns="method", values=name)

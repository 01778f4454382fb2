"""The table with ranks, and the diagram of their critical difference."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.paper_tables.ranks import average_ranks, plot_ranks
from benchmarks.tables.evaluation import FIGURES

#: Of these, less is better.
LOSSES = ("log_loss", "seconds")
TITLES = {
    "": "As each method decides by itself",
    "fair_": "Calibrated and decided on out-of-fold predictions, all alike (seconds with the fits for these)",
}


def write_report(rows: pd.DataFrame, out: Path, command: str) -> Path:
    """Write `tables.md` and `tables.png`; return the path of the former."""
    failed = rows[rows["error"].astype(bool)]
    rows = rows[~rows["error"].astype(bool)]
    whole = _sets_with_all(rows)
    parts = [
        "# Whole tables",
        f"`{command}`: {len(whole)} sets, {rows['seed'].nunique()} folds each; mean over the sets (average rank of "
        f"{rows['method'].nunique()}). G-mean and macro-F1 have each a decision of their own in the second table.",
    ]
    panels = {}
    for prefix, title in TITLES.items():
        table, ranked = pd.DataFrame(index=rows["method"].unique()), {}
        for name in (*FIGURES, "seconds"):
            scores = _scores(rows, prefix + name).loc[whole]
            if scores.empty:
                continue
            ranks = average_ranks(-scores if name in LOSSES else scores)
            table[name] = [f"{scores[m].mean():.3f} ({ranks[m]:.1f})" for m in table.index]
            ranked[name] = -scores if name in LOSSES else scores
        parts += [
            f"## {title}",
            table.to_markdown() if len(table.columns) else "No set has every method yet.",
        ]
        panels |= {
            f"{name}, {title.lower()}": s for name, s in ranked.items() if prefix and name != "seconds"
        }
    parts += [f"{len(failed)} runs failed: " + "; ".join(sorted(set(failed["error"])))] if len(failed) else []
    if panels and rows["method"].nunique() > 1 and len(whole) > 1:
        plot_ranks(panels, out / "tables.png")
        parts.append("![Average ranks with their critical difference](tables.png)")
    path = out / "tables.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _sets_with_all(rows: pd.DataFrame) -> list[str]:
    """Sets on which every method has run."""
    methods = rows.groupby("set")["method"].nunique()
    return sorted(methods.index[methods == rows["method"].nunique()])


def _scores(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Means over the folds, sets by methods."""
    return rows.pivot_table(index="set", columns="method", values=name)

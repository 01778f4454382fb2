"""The README's table, from docs/results/tables.csv: ``python -m benchmarks.tables.readme``."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from benchmarks.paper_tables.ranks import critical_difference
from benchmarks.tables.evaluation import FIGURES
from benchmarks.tables.report import DEVELOPMENT
from benchmarks.tables.results import finished
from benchmarks.tables.summary import NAMES, in_words, n_folds, of_every_method, ranks, scores, spread

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
BEGIN, END = "<!-- results: python -m benchmarks.tables.readme -->", "<!-- end of results -->"

#: What the README calls a row, as far as it is another name.
NAMED = {
    "ensemble": "`ReweightedEnsembleClassifier()`",
    "network": "`ReweightedClassifier()`",
    "network, ours": '`ReweightedClassifier(weighting="ours")`',
    "boosted trees": "boosted trees (scikit-learn)",
    "MLP": "`MLPClassifier` (scikit-learn)",
    "balanced forest": "balanced forest (imbalanced-learn)",
}


def table(path: Path = RESULTS / "tables.csv") -> str:
    """Return the table in Markdown, best average rank first, and what there is to know about it."""
    rows = of_every_method(finished(path))
    # Decided out of fold like all others, trees with a tuned threshold are the trees themselves.
    rows = rows[rows["method"] != "boosted trees, tuned"]
    ranked = pd.DataFrame({name: ranks(rows, f"fair_{name}") for name in FIGURES})
    mean_rank = ranked.mean(axis=1).sort_values()
    cells: dict[str, list[str]] = {"": [NAMED.get(m, m) for m in mean_rank.index]}
    for name in FIGURES:
        means, spreads = scores(rows, f"fair_{name}").mean(), spread(rows, f"fair_{name}")
        cells[NAMES[name]] = [
            f"{in_words(means[m], spreads[m])} ({ranked[name][m]:.1f})" for m in mean_rank.index
        ]
    cells["mean of the ranks"] = [f"{rank:.1f}" for rank in mean_rank]
    seconds = scores(rows, "fair_seconds").mean()
    cells[NAMES["seconds"]] = [f"{seconds[m]:.1f}" for m in mean_rank.index]
    lines = [list(cells), ["---"] * len(cells), *zip(*cells.values(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{_about(rows)}"


def _about(rows: pd.DataFrame) -> str:
    n_sets, n_methods = rows["set"].nunique(), rows["method"].nunique()
    several = spread(rows, f"fair_{FIGURES[0]}").notna().all()
    deviation = (
        "± is the standard deviation over folds"
        if several
        else "one fold, so that there is no standard deviation"
    )
    return (
        f"Mean over {n_sets} tables ({n_folds(rows)} of five folds each; {deviation}), in brackets the average rank of "
        f"{n_methods}, 1 the best; ranks less than {critical_difference(n_methods, n_sets):.1f} apart may be chance. "
        f"All are calibrated and decided on out-of-fold predictions, at their defaults. {DEVELOPMENT}: ranks without "
        "these, and failures, in [the whole table](docs/results/tables.md)."
    )


def put_into(text: str) -> str:
    """Return the README with the table between its two marks."""
    found = f"({re.escape(BEGIN)}\n).*?(\n{re.escape(END)})"
    return re.sub(found, lambda marks: f"{marks[1]}\n{table()}\n{marks[2]}", text, flags=re.DOTALL)


def main() -> None:
    """Bring the README up to date."""
    path = ROOT / "README.md"
    path.write_text(put_into(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

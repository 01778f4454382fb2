"""The README's table, from the CSV files of docs/results: ``python -m benchmarks.paper_tables.readme``."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from benchmarks.paper_tables.ranks import average_ranks

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- results: python -m benchmarks.paper_tables.readme -->", "<!-- end of results -->"

#: What the README calls a row, and what it is called where validation rows are given and in the benchmark.
ROWS = {
    '`"none"`': ("plain", "plain"),
    '`"none"`, threshold tuned': ("plain, tuned threshold", None),
    '`"proportion"`': ("proportion", "proportion"),
    '`"absgd"`': ("ABSGD", "ABSGD"),
    '`"two-phase"`': ("two-phase", "two-phase"),
    '`"hu"`': ("Hu et al.", "Hu et al."),
    '`"ours"`': ("ours", "ours"),
    "boosted trees": ("boosted trees + validation rows", "boosted trees"),
}
ACCURACIES = {
    "[sentences, 20 : 1000](docs/results/sst2.md)": ("sst2", "20:1000"),
    "[trucks, 10 : 10,000](docs/results/aps.md)": ("aps", "mean imputation, min-max"),
}
RANKED = {
    "[ten tables](docs/results/benchmark.md), G-mean": "G-mean, default decision",
    "the same, macro-F1": "macro-F1, default decision",
}


def table(results: Path = ROOT / "docs" / "results") -> str:
    """Return the table in Markdown."""
    columns: dict[str, list[str]] = {"": list(ROWS)}
    for title, (file, task) in ACCURACIES.items():
        frame = pd.read_csv(results / f"{file}.csv").query(
            "metric == 'accuracy' and chosen_on == 'validation'"
        )
        block = frame[frame["task"] == task].set_index("method")
        columns[title] = [
            f"{block['mean'][name]:.1f} ± {block['std'][name]:.1f}" for name, _ in ROWS.values()
        ]
    frame = pd.read_csv(results / "benchmark.csv")
    for title, metric in RANKED.items():
        scores = frame[frame["metric"] == metric].pivot(index="task", columns="variable", values="mean")
        ranked = average_ranks(scores)
        columns[title] = ["–" if name is None else f"{ranked[name]:.1f}" for _, name in ROWS.values()]
    lines = [list(columns), ["---"] * len(columns), *zip(*columns.values(), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def put_into(text: str) -> str:
    """Return the README with the table between its two marks."""
    return re.sub(
        f"({re.escape(BEGIN)}\n).*?(\n{re.escape(END)})", rf"\1\n{table()}\n\2", text, flags=re.DOTALL
    )


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(put_into(path.read_text(encoding="utf-8")), encoding="utf-8")

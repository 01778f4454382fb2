"""The directive ``measured``: one method's rows of the tables under results/, so that no figure stands twice."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parent.parent / "results"


class Table(NamedTuple):
    """Where the figures of one task stand, and how the task is called."""

    file: str
    task: str
    name: str
    page: str


TABLES = [
    Table("sst2", "10:1000", "text, 10 : 1000", "sst2"),
    Table("sst2", "20:1000", "text, 20 : 1000", "sst2"),
    Table("sst2", "100:1000", "text, 100 : 1000", "sst2"),
    Table("sst2_text_network", "20:1000, TextFCN", "text, 20 : 1000, the paper's network", "sst2"),
    Table("aps", "class-mean imputation, min-max", "APS, 10 : 10,000, as the paper", "aps"),
    Table("aps", "mean imputation, min-max", "APS, honestly imputed", "aps"),
    Table("sst5", "50:500", "text, five classes, 50 : 500", "sst5"),
]
RANKED = ["G-mean, default decision", "macro-F1, default decision", "average precision"]


def accuracy(table: Table, method: str) -> str:
    """Return "mean ± standard deviation" of the setting that was chosen on validation rows."""
    frame = pd.read_csv(RESULTS / f"{table.file}.csv")
    chosen = frame.query("task == @table.task and method == @method and metric == 'accuracy'")
    row = chosen[chosen["chosen_on"] == "validation"].iloc[0]
    return f"{row['mean']:.1f} ± {row['std']:.1f}"


def ranks(method: str) -> list[str]:
    """Return the method's average ranks over the benchmark's sets, by the metrics of RANKED."""
    frame = pd.read_csv(RESULTS / "benchmark.csv")
    found = []
    for metric in RANKED:
        scores = frame[frame["metric"] == metric].pivot(index="task", columns="variable", values="mean")
        found.append(f"{scores.rank(axis=1, ascending=False)[method].mean():.1f}")
    return found


class Measured(SphinxDirective):
    """``{measured} NAME``: the figures of the method that the tables call NAME, beside those of the plain network."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return two tables."""
        method = self.arguments[0]
        is_plain = method == "plain"
        columns = [method] if is_plain else [method, "plain"]
        head = [f"this: {method}", "plain"][: len(columns)]
        lines = ["| accuracy, % | " + " | ".join([*head, "plain, tuned threshold"]) + " |"]
        lines.append("|---" * (len(head) + 2) + "|")
        for table in TABLES:
            figures = [accuracy(table, one) for one in columns]
            figures.append(
                "–" if table.file == "sst5" else accuracy(table, "plain, tuned threshold")
            )  # no single threshold with five classes
            lines.append(f"| [{table.name}](../results/{table.page}.md) | " + " | ".join(figures) + " |")
        lines += ["", "| [average rank of eleven](../results/benchmark.md) | " + " | ".join(RANKED) + " |"]
        lines.append("|---" * (len(RANKED) + 1) + "|")
        lines += [f"| {one} | " + " | ".join(ranks(one)) + " |" for one in columns]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Any) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("measured", Measured)
    return {"parallel_read_safe": True}

"""One method's figures out of the pages under results/, so that no figure stands twice.

The directive ``measured`` are its rows of the tables, the role ``steps`` what one of its steps costs.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

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


def steps(method: str, page: Path = RESULTS / "speed.md") -> str:
    """Return "2.23 steps (skreweight 0.1.0)": the ratio on the first problem of the page on speed, and its version."""
    text = page.read_text(encoding="utf-8")
    name, _, rest = method.partition(", ")
    label = f'weighting="{name}"' + (f", {rest}" if rest else "")
    ratio = re.search(rf"^\| {re.escape(label)} \| ([\d.]+) \|", text, re.MULTILINE)
    version = re.search(r"^- versions: skreweight ([^, ]+)", text, re.MULTILINE)
    if ratio is None or version is None:
        raise ValueError(f"results/speed.md must have a row {label!r} and a line of versions.")
    return f"{ratio[1]} steps (skreweight {version[1]})"


class Steps(SphinxRole):
    """``{steps}`hu```: what a step of a method costs."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Return the ratio as text."""
        return [nodes.Text(steps(self.text))], []


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
    """Register both."""
    app.add_directive("measured", Measured)
    app.add_role("steps", Steps())
    return {"parallel_read_safe": True}

"""Average ranks over the sets of several runs.

``python -m benchmarks.paper_tables.joined docs/results/benchmark_more.csv`` prints the table.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from benchmarks.paper_tables.ranks import average_ranks


def ranks_over_all(path: Path) -> str:
    """Return a table of the methods' average ranks by each figure, of means over folds in a CSV file.

    Its columns are task, variable (the method), mean, std and metric; 1 is the best rank.
    """
    means = pd.read_csv(path)
    methods = list(means["variable"].unique())
    columns = {
        str(metric): average_ranks(block.pivot_table(index="task", columns="variable", values="mean"))
        for metric, block in means.groupby("metric", sort=False)
    }
    lines = [["method", *columns], ["---"] * (1 + len(columns))]
    lines += [[m, *(f"{ranks[m]:.1f}" for ranks in columns.values())] for m in methods]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(ranks_over_all(Path(sys.argv[1])))

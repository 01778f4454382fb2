"""Average ranks over the sets of several runs."""

from pathlib import Path

import pandas as pd

from benchmarks.paper_tables.joined import ranks_over_all

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_ranks_by_hand(tmp_path) -> None:
    means = pd.DataFrame(
        [(task, method, mean, 0.0, "G-mean") for task, scores in (("a", (0.9, 0.5)), ("b", (0.7, 0.7)))
         for method, mean in zip(("x", "y"), scores, strict=True)],
        columns=["task", "variable", "mean", "std", "metric"],
    )  # fmt: skip
    means.to_csv(tmp_path / "means.csv", index=False)
    # a: 1 and 2; b: a tie, 1.5 each
    assert ranks_over_all(tmp_path / "means.csv").splitlines()[2:] == ["| x | 1.2 |", "| y | 1.8 |"]


def test_the_page_has_these_ranks() -> None:
    assert ranks_over_all(RESULTS / "benchmark_more.csv") in (RESULTS / "benchmark_more.md").read_text()

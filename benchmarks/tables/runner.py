"""Runs what is missing, one row of a CSV file after another, and writes the report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from benchmarks.results_file import appended
from benchmarks.tables import readme
from benchmarks.tables.evaluation import evaluate
from benchmarks.tables.methods import METHODS
from benchmarks.tables.report import write_report
from benchmarks.tables.results import COLUMNS, KEY, finished
from skreweight.datasets import fetch_aps_failure, fetch_benchmark

#: Imbalanced-learn's benchmark as far as it is there, and APS Failure by its own test file.
SETS = (
    "ecoli", "satimage", "abalone", "sick_euthyroid", "us_crime", "oil", "wine_quality", "letter_img", "yeast_me2",
    "mammography", "aps",
)  # fmt: skip
#: Sets with test rows of their own, which are run once.
OWN_SPLIT = ("aps",)
N_SPLITS = 5


def main(arguments: Sequence[str]) -> Path:
    """Run what is missing and write the report; return its path."""
    options = _parser().parse_args(arguments)
    runs = [
        (name, method, seed)
        for seed in range(options.seeds)
        for name in options.sets
        for method in options.methods
        if seed == 0 or name not in OWN_SPLIT
    ]
    path = options.out / "tables.csv"
    done = set(finished(path)[KEY].itertuples(index=False, name=None))
    missing = [one for one in runs if one not in done]
    options.out.mkdir(parents=True, exist_ok=True)
    bar = tqdm(missing, total=len(runs), initial=len(runs) - len(missing), desc="tables")
    for _ in appended((run_one(*one, options.data) for one in bar), path, COLUMNS):
        pass
    rows = finished(path).merge(pd.DataFrame(runs, columns=KEY), on=KEY)
    report = write_report(
        rows, options.out, f"python -m benchmarks.paper_tables tables --seeds {options.seeds}"
    )
    print(report.read_text())
    if options.out.resolve() == readme.RESULTS:
        readme.main()
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_tables tables", description=__doc__)
    parser.add_argument("--seeds", type=int, default=N_SPLITS, help=f"folds of the sets, at most {N_SPLITS}")
    parser.add_argument("--data", help="folder of the data sets; default: SKREWEIGHT_DATA")
    parser.add_argument("--out", type=Path, default=Path("results"), help="a rerun resumes what lies here")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    return parser


def run_one(name: str, method: str, seed: int, data_home: str | None) -> dict[str, Any]:
    """Fit and evaluate one method on one fold; what goes wrong becomes a row as well."""
    row: dict[str, Any] = {"set": name, "method": method, "seed": seed}
    try:
        row |= evaluate(METHODS[method](seed), *split(name, seed, data_home), seed)
    except (ValueError, RuntimeError) as error:
        row["error"] = f"{type(error).__name__}: {error}".replace("\n", " ")
    return {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}


def split(
    name: str, seed: int, data_home: str | None
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any], NDArray[np.int64]]:
    """Return training and test rows of a fold; APS has one split, its own."""
    if name == "aps":
        (X, y), (X_test, y_test) = (
            fetch_aps_failure(subset=part, data_home=data_home, return_X_y=True) for part in ("train", "test")
        )
        codes, codes_test = ((np.asarray(labels) == "pos").astype(np.int64) for labels in (y, y_test))
        return np.asarray(X), codes, np.asarray(X_test), codes_test
    data = fetch_benchmark([name], data_home=data_home)[name]
    y = (data.target == 1).astype(int)
    train, test = list(StratifiedKFold(N_SPLITS, shuffle=True, random_state=0).split(data.data, y))[seed]
    return data.data[train], y[train], data.data[test], y[test]

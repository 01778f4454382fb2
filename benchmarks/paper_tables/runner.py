"""Runs what is missing of a table; each finished configuration is appended to a CSV file at once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from benchmarks.paper_tables.evaluation import DECISION_METRICS, evaluate
from benchmarks.paper_tables.experiments import Experiment
from benchmarks.paper_tables.grids import configurations
from benchmarks.paper_tables.methods import METHODS
from benchmarks.paper_tables.tables import TABLES
from benchmarks.results_file import appended, whole_rows

KEY = ["table", "grid", "task", "method", "config", "seed"]
FIGURES = [
    *DECISION_METRICS,
    "average_precision",
    *(f"tuned_{name}" for name in DECISION_METRICS),
    "val_accuracy",
    "val_loss",
    "seconds",
]
COLUMNS = [*KEY, *FIGURES, "error"]


class Run(NamedTuple):
    """One configuration of one method on one draw; ``config`` is JSON, so that it can be a key."""

    table: str
    grid: str
    task: str
    method: str
    config: str
    seed: int


def planned(
    table: str, grid: str, seeds: Iterable[int], tasks: Iterable[str], methods: Iterable[str]
) -> list[Run]:
    """Return every run of a table, those of one draw in a row."""
    return [
        Run(table, grid, task, method, json.dumps(config, sort_keys=True), seed)
        for seed in seeds
        for task in tasks
        for method in methods
        for config in configurations(method, grid, table)
    ]


def finished(path: Path) -> pd.DataFrame:
    """Return the rows of a results file; a last line that was cut off in writing is left out."""
    rows = whole_rows(path, COLUMNS)
    rows[FIGURES] = rows[FIGURES].apply(pd.to_numeric)
    return rows.astype({"seed": int}).drop_duplicates(KEY, keep="last")


def run(runs: list[Run], path: Path, *, data_home: str | None, jobs: int = 1) -> pd.DataFrame:
    """Run what the file does not have yet, with the time left on the screen, and return all rows of the runs."""
    done = set(finished(path)[KEY].itertuples(index=False, name=None))
    missing = [one for one in runs if tuple(one) not in done]
    results = Parallel(n_jobs=jobs, return_as="generator_unordered")(
        delayed(run_one)(one, data_home, one_thread=jobs != 1) for one in missing
    )
    bar = tqdm(results, total=len(runs), initial=len(runs) - len(missing), desc=runs[0].table)
    for _ in appended(bar, path, COLUMNS):
        pass
    rows = finished(path)
    wanted = pd.DataFrame(runs, columns=KEY)
    return wanted.merge(rows, on=KEY, how="left")


def run_one(one: Run, data_home: str | None, *, one_thread: bool = False) -> dict[str, Any]:
    """Fit and evaluate one configuration; what goes wrong becomes a row as well."""
    if one_thread:
        torch.set_num_threads(1)
    row: dict[str, Any] = one._asdict()
    experiment = _experiment(one.table, one.task, one.seed, one.grid, data_home)
    start = time.perf_counter()
    try:
        classifier = METHODS[one.method](experiment, **json.loads(one.config))
        row |= evaluate(classifier, experiment.data)
    except (ValueError, RuntimeError) as error:
        row["error"] = f"{type(error).__name__}: {error}".replace("\n", " ")
    row["seconds"] = time.perf_counter() - start
    return {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}


@lru_cache(maxsize=2)
def _experiment(table: str, task: str, seed: int, grid: str, data_home: str | None) -> Experiment:
    """A draw, kept while its configurations are run: they share stage 1."""
    return TABLES[table].experiment(task, seed, grid, data_home)

"""Runs what is missing, all draws of a set, a method and a number of validation rows at once."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from benchmarks.results_file import appended, whole_rows
from benchmarks.trusted.draws import SIZES, Draw
from benchmarks.trusted.evaluation import FIGURES, evaluate
from benchmarks.trusted.methods import METHODS
from benchmarks.trusted.report import write_report
from benchmarks.trusted.scenarios import SCENARIOS, SETS, Scenario

KEY = ["set", "method", "n_validation", "condition", "seed"]
COLUMNS = [*KEY, *FIGURES, "seconds", "error"]
Cell = tuple[str, str, int, str, int]


def main(arguments: Sequence[str]) -> Path:
    """Run what is missing of a scenario and write its report; return the path of the Markdown file."""
    options = _parser().parse_args(arguments)
    scenario = SCENARIOS[options.scenario]
    conditions = options.conditions or list(scenario.conditions)
    if strange := [c for c in conditions if c not in scenario.conditions]:
        raise SystemExit(f"Unknown condition {strange[0]!r}; there are: {', '.join(scenario.conditions)}.")
    path = options.out / f"{scenario.file}.csv"
    options.out.mkdir(parents=True, exist_ok=True)
    if options.as_it_stands:
        rows = finished(path)
        rows = rows[rows["condition"].isin(conditions)]
    else:
        rows = _run(options, scenario, conditions, path)
    report = write_report(options.scenario, rows, options.out / f"{options.scenario}.md", options.note)
    print(report.read_text(encoding="utf-8"))
    return report


def _run(options: argparse.Namespace, scenario: Scenario, conditions: list[str], path: Path) -> pd.DataFrame:
    """Run what the file does not have yet; return what was asked for."""
    seeds = range(options.seeds)
    units = [(name, method, n) for name in options.sets for n in options.sizes for method in options.methods]
    for unit in tqdm(units, desc=options.scenario):
        cells = [(*unit, condition, seed) for condition in conditions for seed in seeds]
        done = set(finished(path)[KEY].itertuples(index=False, name=None))
        if missing := [cell for cell in cells if cell not in done]:
            for _ in appended(run_together(scenario, missing, options.data), path, COLUMNS):
                pass
    wanted = pd.DataFrame(
        [(*unit, c, seed) for unit in units for c in conditions for seed in seeds], columns=KEY
    )
    return finished(path).merge(wanted, on=KEY)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_tables", description=__doc__)
    parser.add_argument("scenario", choices=list(SCENARIOS))
    parser.add_argument("--seeds", type=int, default=5, help="draws 0 to N-1")
    parser.add_argument("--data", help="folder of the data sets; default: SKREWEIGHT_DATA")
    parser.add_argument("--out", type=Path, default=Path("results"), help="a rerun resumes what lies here")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        "--sizes", nargs="+", type=int, choices=SIZES, default=list(SIZES), help="validation rows a class"
    )
    parser.add_argument("--conditions", nargs="+", help="only these")
    parser.add_argument(
        "--as-it-stands", action="store_true", help="the page of all runs that lie in --out; nothing is run"
    )
    parser.add_argument("--note", default="", help="what a reader must know of the runs, put into the page")
    return parser


def run_together(scenario: Scenario, cells: Sequence[Cell], data_home: str | None) -> list[dict[str, Any]]:
    """Fit one method on the draws of the cells and return a row for each; what goes wrong becomes a row as well."""
    start = time.process_time()
    made: dict[Cell, Draw] = {}
    rows = {cell: dict(zip(KEY, cell, strict=True)) for cell in cells}
    for cell in cells:
        name, _, n, condition, seed = cell
        try:
            made[cell] = scenario.draw(name, condition, n, seed, data_home)
        except ValueError as error:
            rows[cell]["error"] = _line(error)
    results = METHODS[cells[0][1]](list(made.values()), [cell[-1] for cell in made])
    for (cell, draw), fitted in zip(made.items(), results, strict=True):
        if isinstance(fitted, Exception):
            rows[cell]["error"] = _line(fitted)
        else:
            rows[cell] |= evaluate(fitted, draw)
    seconds = (time.process_time() - start) / len(cells)
    return [
        {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in (row | {"seconds": seconds}).items()}
        for row in rows.values()
    ]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def finished(path: Path) -> pd.DataFrame:
    """Return the rows of a results file; a last line that was cut off is left out."""
    rows = whole_rows(path, COLUMNS)
    figures = [*FIGURES, "seconds"]
    rows[figures] = rows[figures].apply(pd.to_numeric)
    return rows.astype({"seed": int, "n_validation": int}).drop_duplicates(KEY, keep="last")

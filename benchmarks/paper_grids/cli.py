"""The command: runs what is missing, says what the whole would take, writes the page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from benchmarks.paper_grids.fits import N_FOLDS, run_chunk
from benchmarks.paper_grids.plan import CONSTRAINT_STEPS, METHODS, TASKS, chunks, settings_of
from benchmarks.paper_grids.report import steps_in, steps_of, write_report
from benchmarks.paper_tables.runner import COLUMNS, KEY, Run, finished
from benchmarks.results_file import appended


def main(arguments: Sequence[str]) -> Path:
    """Run what is missing and write `grids.md`; return its path."""
    options = _parser().parse_args(arguments)
    if options.as_it_stands:
        every = [finished(options.out / file) for file in ("grids.csv", "grids_cross_fitted.csv")]
        return _report(options, every, _commands(*every))
    files = {"grids.csv": False} | ({"grids_cross_fitted.csv": True} if options.cross_fitted else {})
    plan = chunks(
        options.tasks,
        options.methods,
        options.draws,
        options.constraint_steps,
        options.settings,
        options.pack,
    )
    for file, cross_fitted in files.items():
        _run(plan, options.out / file, options.data, cross_fitted=cross_fitted)
    wanted = pd.DataFrame([run for chunk in plan for run in chunk], columns=KEY)
    both = [
        finished(options.out / file).merge(wanted, on=KEY) for file in ("grids.csv", "grids_cross_fitted.csv")
    ]
    return _report(options, both, [_command(options)])


def _report(options: argparse.Namespace, both: list[pd.DataFrame], commands: list[str]) -> Path:
    report = write_report(*both, options.out / "grids.md", commands)
    print(report.read_text(encoding="utf-8"))
    return report


def _run(plan: list[list[Run]], path: Path, data_home: str | None, *, cross_fitted: bool) -> None:
    done = set(finished(path)[KEY].itertuples(index=False, name=None))
    for chunk in tqdm(plan, desc=path.stem):
        if missing := [run for run in chunk if tuple(run) not in done]:
            for _ in appended(run_chunk(missing, data_home, cross_fitted=cross_fitted), path, COLUMNS):
                pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_tables grids", description=__doc__)
    parser.add_argument("--draws", type=int, default=5, help="draws 0 to N-1")
    parser.add_argument("--data", help="folder of the data sets; default: SKREWEIGHT_DATA")
    parser.add_argument("--out", type=Path, default=Path("results"), help="a rerun resumes what lies here")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--constraint-steps",
        nargs="+",
        type=int,
        choices=CONSTRAINT_STEPS,
        default=[1, 5],
        help='T\' of "ours"',
    )
    parser.add_argument("--settings", type=int, help="so many of each grid, evenly spaced, to try it out")
    parser.add_argument("--pack", type=int, default=48, help="settings that are trained at once")
    parser.add_argument(
        "--cross-fitted", action="store_true", help=f"choose by {N_FOLDS}-fold out-of-fold scores too"
    )
    parser.add_argument(
        "--as-it-stands", action="store_true", help="the page of all runs that lie in --out; nothing is run"
    )
    return parser


def _commands(rows: pd.DataFrame, out_of_fold: pd.DataFrame) -> list[str]:
    """Return commands that make these runs, methods that were run alike in one."""
    found = []
    for fits, more in ((rows, ""), (out_of_fold, " --cross-fitted")):
        for task, of_task in fits.groupby("task", sort=False):
            alike: dict[str, list[str]] = {}
            for method, block in of_task.groupby("method", sort=False):
                for words in _parts(str(method), block):
                    alike.setdefault(words, []).append(f"'{method}'")
            found += [
                f"python -m benchmarks.paper_tables grids --tasks '{task}' --methods {' '.join(methods)} {words}{more}"
                for words, methods in alike.items()
            ]
    return found


def _parts(method: str, rows: pd.DataFrame) -> list[str]:
    """Return the options that make the runs of a method: T' of which all settings were run in one, and each other."""
    by_steps = {
        steps: rows[[s == steps for s in steps_in(rows)]] for steps in sorted(steps_of(rows), key=str)
    }
    found: dict[str, list[str]] = {}
    for steps, block in by_steps.items():
        every = settings_of(method) if steps is None else settings_of(method, [steps])
        n = block["config"].nunique()
        words = f"--draws {block['seed'].nunique()}" + (f" --settings {n}" if n < len(every) else "")
        found.setdefault(words, []).append(str(steps))
    parts = []
    for words, steps_alike in found.items():
        # Some settings of two T' are not some of each.
        groups = [[one] for one in steps_alike] if "--settings" in words else [steps_alike]
        parts += [
            words if group == ["None"] else f"{words} --constraint-steps {' '.join(group)}"
            for group in groups
        ]
    return parts


def _command(options: argparse.Namespace) -> str:
    words = [f"python -m benchmarks.paper_tables grids --draws {options.draws}"]
    for name in ("tasks", "methods"):
        words.append(f"--{name} " + " ".join(f"'{one}'" for one in getattr(options, name)))
    words.append("--constraint-steps " + " ".join(map(str, options.constraint_steps)))
    words += [f"--settings {options.settings}"] if options.settings else []
    words += ["--cross-fitted"] if options.cross_fitted else []
    return " ".join(words)

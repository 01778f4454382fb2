"""``python -m benchmarks.paper_tables TABLE --seeds 5 --data DIR --out DIR [--grid quick|paper] [--jobs N]``.

``python -m benchmarks.paper_tables tables`` is the ensemble beside its rivals on whole tables (`benchmarks.tables`);
``ablations`` are two of Qi et al.; ``grids`` is the paper's whole grid in packs (`benchmarks.paper_grids`);
``noise``, ``shift``, ``groups`` and ``mislabelled`` ask where learned weights win (`benchmarks.trusted`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper_grids.cli import main as paper_grids
from benchmarks.paper_tables.ablations import main as ablations
from benchmarks.paper_tables.report import write_report
from benchmarks.paper_tables.runner import planned, run
from benchmarks.paper_tables.tables import TABLES
from benchmarks.tables.runner import main as whole_tables
from benchmarks.trusted.runner import main as trusted_rows
from benchmarks.trusted.scenarios import SCENARIOS


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run a table, or what is missing of it, and write its report; return the path of the Markdown file."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["tables"]:
        return whole_tables(arguments[1:])
    if arguments[:1] == ["ablations"]:
        return ablations(arguments[1:])
    if arguments[:1] == ["grids"]:
        return paper_grids(arguments[1:])
    if arguments[:1] and arguments[0] in SCENARIOS:
        return trusted_rows(arguments)
    options = _parser().parse_args(arguments)
    table = TABLES[options.table]
    tasks = _some_of(options.tasks, list(table.tasks), "task")
    methods = _some_of(options.methods, list(table.methods), "method")
    runs = planned(options.table, options.grid, range(options.seeds), tasks, methods)
    rows = run(runs, options.out / f"{options.table}.csv", data_home=options.data, jobs=options.jobs)
    report = write_report(options.table, rows, options.out, _command(options))
    print(report.read_text())
    return report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_tables", description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N-1; folds of the benchmark")
    parser.add_argument("--data", help="folder of the data sets; default: SKREWEIGHT_DATA")
    parser.add_argument("--out", type=Path, default=Path("results"), help="a rerun resumes what lies here")
    parser.add_argument("--grid", choices=("quick", "paper"), default="quick")
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--tasks", nargs="+", help="only these columns of the table")
    parser.add_argument("--methods", nargs="+", help="only these rows of the table")
    return parser


def _some_of(asked: list[str] | None, known: list[str], what: str) -> list[str]:
    unknown = sorted(set(asked or []) - set(known))
    if unknown:
        sys.exit(f"Unknown {what} {unknown[0]!r}; this table has: {', '.join(map(repr, known))}.")
    return [name for name in known if asked is None or name in asked]


def _command(options: argparse.Namespace) -> str:
    """The command as others would type it: folders and the number of processes are theirs to choose."""
    only = "".join(
        f" --{name} {' '.join(map(repr, chosen))}"
        for name, chosen in (("tasks", options.tasks), ("methods", options.methods))
        if chosen
    )
    return f"python -m benchmarks.paper_tables {options.table} --seeds {options.seeds} --grid {options.grid}{only}"


if __name__ == "__main__":
    main()

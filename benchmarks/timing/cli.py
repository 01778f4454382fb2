"""Time per epoch and memory of skreweight, side by side with what users would otherwise take."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import report
from benchmarks.timing.contestants import FLOOR, contestants
from benchmarks.timing.epochs import CLOCKS, measure
from benchmarks.timing.memory import N_COLUMNS, cases, measure_memory
from benchmarks.timing.operations import PROBLEMS, count_operations
from benchmarks.timing.packs import SIZES, WIDE_ROUNDS, measure_pack_memory, measure_packs, pack_problems
from benchmarks.timing.problems import problems
from benchmarks.timing.searches import CASES, measure_searches
from benchmarks.timing.validation_size import measure_sizes, sizes


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the arguments say and print it as Markdown."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # BackPACK's hooks
    warnings.filterwarnings("ignore", message="With two classes weighting")
    if options.quick:
        options.rounds = 1
    figures: dict[str, Any] = {}
    measurements = {
        "epochs": _epochs,
        "operations": _operations,
        "memory": _memory,
        "validation": _validation,
        "packs": _packs,
        "search": _search,
    }
    named = [name for name in measurements if name != "epochs" and getattr(options, name)]
    parts = []
    everything = [name for name in measurements if name != "search"]  # which has a page of its own
    for name in everything if options.all else named or ["epochs"]:
        for part in measurements[name](options, figures):
            print(part, end="\n\n", flush=True)
            parts.append(part)
    facts = {**report.machine(torch.device(options.device)), "clock": options.clock}
    print(report.machine_lines(facts))
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        pages = {"search": report.SEARCHES, "packs": report.PACKS}
        introduction = next((pages[n] for n in pages if n in named), report.INTRODUCTION)
        tried = f"\n{report.TRIED}\n" if options.quick else ""
        begin = report.dated(introduction, facts) + tried
        text = "\n\n".join([begin + "\n" + report.machine_lines(facts), *parts])
        options.report.write_text(text + "\n")
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, **figures}, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/speed.py", description=__doc__)
    parser.add_argument("--all", action="store_true", help="everything, one after the other")
    parser.add_argument("--operations", action="store_true", help="counts of operations a step, instead")
    parser.add_argument("--memory", action="store_true", help="peak memory and time as rows grow, instead")
    parser.add_argument("--validation", action="store_true", help="time as validation rows grow, instead")
    parser.add_argument("--packs", action="store_true", help="networks trained at once, instead")
    parser.add_argument(
        "--search", action="store_true", help="searches, packed and plain, instead (10 minutes)"
    )
    parser.add_argument("--searches", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--problems", nargs="+", choices=list(problems()), default=list(problems()))
    parser.add_argument("--only", nargs="+", choices=list(contestants()), help="contestants beside the floor")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds after one of warm-up")
    parser.add_argument("--rows", type=int, help="another number of rows: shorter turns")
    parser.add_argument("--quick", action="store_true", help="tiny problems and one round: tries the script")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time, for a busy machine"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report", type=Path, help="also write the tables to this Markdown file")
    parser.add_argument("--json", type=Path, help="also write every round to this file")
    return parser


def _epochs(options: argparse.Namespace, figures: dict[str, Any]) -> Iterator[str]:
    chosen = [c for c in contestants().values() if not options.only or c.name in (FLOOR, *options.only)]
    figures["epochs"] = []
    for name in options.problems:
        problem = problems(quick=options.quick, n_rows=options.rows)[name]
        lines = measure(
            problem,
            chosen,
            n_rounds=options.rounds,
            device=torch.device(options.device),
            clock=options.clock,
        )
        figures["epochs"] += [asdict(line) for line in lines]
        yield report.epochs_table(problem.title, lines)


def _operations(options: argparse.Namespace, figures: dict[str, Any]) -> Iterator[str]:
    figures["operations"] = {}
    for name in ("mlp",) if options.quick else PROBLEMS:
        found = count_operations(name)
        figures["operations"][name] = [asdict(o) for o in found]
        yield report.operations_table(problems()[name].title, found)


def _memory(options: argparse.Namespace, figures: dict[str, Any]) -> Iterator[str]:
    found = []
    for case in cases(quick=options.quick):
        print(case, file=sys.stderr)
        found.append(measure_memory(case))
    figures["memory"] = [asdict(f) for f in found]
    yield f"## Memory of a fit on N × {N_COLUMNS} rows\n\n{report.memory_table(found)}"


def _validation(options: argparse.Namespace, figures: dict[str, Any]) -> Iterator[str]:
    problem = problems(quick=options.quick, n_rows=options.rows)["mlp"]
    lines = measure_sizes(
        problem,
        sizes(quick=options.quick),
        n_rounds=options.rounds,
        device=torch.device(options.device),
        clock=options.clock,
    )
    figures["validation"] = [asdict(line) for line in lines]
    yield report.epochs_table(f"Validation rows, {problem.title}", lines)


def _packs(options: argparse.Namespace, figures: dict[str, Any]) -> Iterator[str]:
    sizes = (1, 2) if options.quick else SIZES
    figures["packs"] = []
    for problem in pack_problems(quick=options.quick):
        n_rounds = min(options.rounds, WIDE_ROUNDS) if problem.name == "mlp-wide" else options.rounds
        lines = measure_packs(
            problem, sizes, n_rounds=n_rounds, device=torch.device(options.device), clock=options.clock
        )
        figures["packs"] += [asdict(line) for line in lines]
        yield report.epochs_table(f"Networks at once, per member: {problem.title}", lines)
    if not options.quick:
        found = measure_pack_memory(SIZES)
        figures["pack_memory"] = [asdict(f) for f in found]
        yield f"## Memory of packs on {pack_problems()[0].title}\n\n{report.pack_memory_table(found)}"


def _search(options: argparse.Namespace, figures: dict[str, Any]) -> Iterator[str]:
    lines = measure_searches(
        options.searches, n_rounds=options.rounds, clock=options.clock, quick=options.quick
    )
    figures["search"] = [asdict(line) for line in lines]
    yield report.searches_table({name: case.title for name, case in CASES.items()}, lines)

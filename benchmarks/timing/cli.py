"""The command line of ``benchmarks/speed.py``."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import report
from benchmarks.timing.contestants import FLOOR, contestants
from benchmarks.timing.epochs import CLOCKS, measure
from benchmarks.timing.problems import problems


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the arguments say and print it as Markdown."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # BackPACK's hooks
    device = torch.device(options.device)
    figures: dict[str, Any] = {}
    parts = [_epochs(options, device, figures)]
    facts = report.machine(device)
    facts["clock"] = options.clock
    figures["machine"] = facts
    print("\n\n".join([report.machine_lines(facts), *parts]))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/speed.py", description=__doc__)
    parser.add_argument("--problems", nargs="+", choices=list(problems()), default=list(problems()))
    parser.add_argument("--only", nargs="+", choices=list(contestants()), help="contestants beside the floor")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds after one of warm-up")
    parser.add_argument("--quick", action="store_true", help="tiny problems and one round: tries the script")
    parser.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: where the machine is shared"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="also write every round to this file")
    return parser


def _epochs(options: argparse.Namespace, device: torch.device, figures: dict[str, Any]) -> str:
    chosen = [c for c in contestants().values() if not options.only or c.name in (FLOOR, *options.only)]
    parts = []
    figures["epochs"] = []
    for name in options.problems:
        problem = problems(quick=options.quick)[name]
        n_rounds = 1 if options.quick else options.rounds
        lines = measure(problem, chosen, n_rounds=n_rounds, device=device, clock=options.clock)
        figures["epochs"] += [asdict(line) for line in lines]
        parts.append(report.epochs_table(problem, lines))
    return "\n\n".join(parts)

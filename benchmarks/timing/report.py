"""What was measured, as Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import torch

from benchmarks.timing.epochs import Line
from benchmarks.timing.memory import MemoryFigures
from benchmarks.timing.operations import Operations
from benchmarks.timing.packs import PackMemory
from benchmarks.timing.searches import SearchLine
from benchmarks.versions import in_words

_PACKAGES = ("torch", "skorch", "scikit-learn", "numpy", "absgd", "backpack-for-pytorch")


def machine(device: torch.device) -> dict[str, str]:
    """Return what the figures depend on: machine, versions, date."""
    found = {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f} (one minute, at the end)",
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": in_words(_PACKAGES),
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def dated(introduction: str, facts: dict[str, str]) -> str:
    """Return a page's first lines with the day and the version of this package under the title."""
    title, _, rest = introduction.partition("\n\n")
    return f"{title}\n\n**Measured on {facts['date']} with {facts['versions'].split(',')[0]}.**\n\n{rest}"


def machine_lines(facts: dict[str, str]) -> str:
    """Return the facts of `machine` as a Markdown list."""
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table; every column but the first is aligned to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def epochs_table(title: str, lines: list[Line]) -> str:
    """Return the figures of one problem."""
    rows = []
    for line in lines:
        fixed = line.fixed_milliseconds
        label = line.label if line.scaled_from is None else f"{line.label} (from {line.scaled_from:,} rows)"
        spread = f"{min(line.ratios):.2f} to {max(line.ratios):.2f}"
        rows.append(
            [
                label,
                f"{line.ratio:.2f}",
                spread,
                f"{line.milliseconds:.1f}",
                "" if fixed is None else f"{fixed:.1f}",
            ]
        )
    header = ["", "ratio to the loop", "lowest to highest", "ms per epoch", "fit besides epochs, ms"]
    return f"## {title}\n\n{table(header, rows)}"


def memory_table(figures: Iterable[MemoryFigures]) -> str:
    """Return what fits took as rows grow."""
    rows = []
    for f in figures:
        case = f.case
        rows.append(
            [
                f"{case.n_rows:,} rows, {case.dtype}{', memory-mapped' if case.storage != 'array' else ''}, "
                f"{case.weighting}, validation rows: {case.carving}",
                f"{f.array_mb:.0f}",
                f"{f.peak_mb:.1f}",
                f"{f.peak_mb / f.array_mb:.2f}",
                f"{f.own_peak_mb:.1f}",
                f"{f.epoch_seconds:.2f}",
                f"{1e6 * f.epoch_seconds / case.n_rows:.2f}",
                f"{f.fixed_seconds:.2f}",
            ]
        )
    header = [
        "",
        "X, MB",
        "peak above before, MB",
        "over X",
        "without pages of files, MB",
        "s per epoch",
        "µs per row",
        "fit besides epochs, s",
    ]
    return table(header, rows)


def pack_memory_table(figures: Iterable[PackMemory]) -> str:
    """Return the peak of the resident memory above what it was before the fit."""
    rows = [
        [f'"{f.weighting}", {f.k} at once', f"{f.peak_mb:.1f}", f"{f.peak_mb / f.k:.2f}"] for f in figures
    ]
    return table(["", "peak above before, MB", "per member, MB"], rows)


def operations_table(title: str, found: list[Operations]) -> str:
    """Return the counts of one problem, and their ratios to the first line's."""
    first = found[0]
    rows = [
        [
            o.label,
            f"{o.megaflops:.1f}",
            f"{o.megaflops / first.megaflops:.2f}",
            f"{o.n_operations:.0f}",
            f"{o.n_operations / first.n_operations:.2f}",
        ]
        for o in found
    ]
    header = ["", "Mflop a step", "ratio", "tensor operations a step", "ratio"]
    return f"## Operations, {title}\n\n{table(header, rows)}"


_WHO = {
    "packed": "`PackedGridSearchCV`",
    "plain": "`GridSearchCV`, the same classifier",
    "skorch": "`GridSearchCV`, stock skorch, as many candidates and epochs",
}


def searches_table(titles: dict[str, str], lines: list[SearchLine]) -> str:
    """Return what searches took, each case with its contestants."""
    packed = {line.case: line for line in lines if line.contestant == "packed"}
    rows = [
        [
            f"{titles[line.case]}: {_WHO[line.contestant]}",
            f"{statistics.median(line.seconds):.1f}",
            f"{line.ratio:.2f}",
            f"{min(line.ratios):.2f} to {max(line.ratios):.2f}",
            str(len(line.ratios)),
            f"{line.peak_mb:.0f}",
            f"{line.process_mb:.0f}",
            f"{packed[line.case].process_mb / line.process_mb:.2f}",
            *_agreement(line),
        ]
        for line in lines
    ]
    header = [
        "",
        "s",
        "times the packed search",
        "lowest to highest",
        "rounds",
        "peak above before, MB",
        "peak of the process, MB",
        "the packed one's over it",
        "scores differ by up to",
        "same best candidate",
    ]
    return f"## Searches\n\n{table(header, rows)}"


def _agreement(line: SearchLine) -> list[str]:
    """How far the packed search's scores are from a search over the same candidates."""
    if line.contestant != "plain":
        return ["", ""]
    return [f"{line.score_difference:.2g}", "yes" if line.same_best else "no"]


INTRODUCTION = """# Speed and memory

Written by `python benchmarks/speed.py --all --report docs/results/speed.md`.

- Contestants take turns: every round trains each of them anew for a warm-up epoch and a timed one, after one
  round that does not count. Ratios are to the hand-written loop of the same round; the table has their median,
  lowest and highest. Where few rows stand for an epoch the label says from how many its time was scaled up.
- The hand-written loop cuts batches from tensors with a fused Adam and does nothing else. Stock skorch has its
  defaults, no output, and no validation split.
- The time of ours is that of an epoch of stage 2 inside `fit`, its callbacks and history included; what a fit
  costs besides its epochs (checks, placing rows, building) has a column of its own.
- 10 validation rows a class.
- Memory: the highest resident memory during the fit less that before it, X already standing there.
  "Without pages of files" leaves out what the kernel maps from a file and may take back.
"""

SEARCHES = """# Searches

Written by `python benchmarks/speed.py --search --report docs/results/search.md`.

- `PackedGridSearchCV` beside `GridSearchCV` over the same classifier and candidates, one thread, `refit=False`. Every
  turn runs in a process of its own; contestants take turns within a round, ratios are those within a round, and the
  table has their median, lowest and highest. Rounds stop when a case has had its time.
- Where packing pays: small networks and batches, whose steps are mostly the calls of kernels, and candidates that
  share stage 1. Where it does not: wide layers and images, whose steps are arithmetic; their cases stand last.
- Peak above before: the highest resident memory during the search less that before it, X already standing there; of
  the process: all of it, libraries included, of which the packed search may take twice as much.
- Scores: balanced accuracy, the largest difference over candidates and folds. A member of a pack equals the network
  trained alone to rounding, and rounding grows from step to step: in float32 a row near the border may fall on the
  other side of it, and candidates that are close may change places; in float64, which one case has, it does not get
  that far.
"""

PACKS = """# Many networks at once

Written by `python benchmarks/speed.py --packs --report docs/results/packs.md`.

- Time of an epoch of stage 2 (20 steps) per network and member, callbacks and history included, as a ratio to the
  hand-written loop of one network with a fused Adam, which takes turns with them; median, lowest and highest over
  the rounds; a single network's turn is the median of seven. 10 validation rows a class. The wide networks take two
  rounds.
- The line of matrix products is what remains of a plain step when everything else is free: no pack goes below it.
  What stands between the two is memory: the rows of K batches, the activations, Adam's two moments.
- Memory lies in pages of 4 kB unless torch is told otherwise: with `THP_MEM_ALLOC_ENABLE=1` in the environment
  (torch's own switch; Linux) blocks of 2 MB and more lie in huge pages, which the large tensors of packs read faster.
- Memory: the highest resident memory during the fit less that before it, X already standing there; each in a process of
  its own.
"""

#: Stands on a page that was written with `--quick`.
TRIED = "**Written with `--quick`: a few rows and epochs, which try the script and say nothing about speed.**"

"""Time per epoch of all contestants, in turns, so that a slow minute of the machine hits them all alike."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from benchmarks.timing.contestants import FLOOR, Contestant
from benchmarks.timing.loops import Timing
from benchmarks.timing.problems import Data, Problem

#: The clock on the wall, or the processor time of this process, which other work on the machine disturbs less.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Line:
    """All rounds of one contestant on one problem.

    Attributes
    ----------
    seconds, fixed : list of float
        Per round: of the epoch, and of the fit besides its epochs (empty where there is no fit).
    ratios : list of float
        Per round: the epoch's seconds over those of the floor in the same round.
    scaled_from : int or None
        How many rows stand for the epoch; None: all.
    """

    problem: str
    name: str
    label: str
    group: str
    scaled_from: int | None = None
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    fixed: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def milliseconds(self) -> float:
        return 1e3 * statistics.median(self.seconds)

    @property
    def fixed_milliseconds(self) -> float | None:
        return 1e3 * statistics.median(self.fixed) if self.fixed else None

    def add(self, timing: Timing, floor: float) -> None:
        self.seconds.append(timing.epoch)
        self.ratios.append(timing.epoch / floor)
        self.scaled_from = timing.rows
        if timing.fixed is not None:
            self.fixed.append(timing.fixed)


def measure(
    problem: Problem,
    contestants: Iterable[Contestant],
    *,
    n_rounds: int,
    device: torch.device,
    clock: str = "wall",
) -> list[Line]:
    """Time every contestant once a round, after one round of warm-up that does not count.

    Contestants that lack a package are left out with a line on stderr.
    """
    data = Data(problem, device, CLOCKS[clock])
    present = []
    for contestant in contestants:
        if missing := contestant.missing():
            print(f"{problem.name}: {contestant.name} left out, no {', '.join(missing)}", file=sys.stderr)
        else:
            present.append(contestant)
    assert present[0].name == FLOOR
    lines = [Line(problem.name, c.name, c.label, c.group) for c in present]
    for round_ in range(n_rounds + 1):
        timings = [contestant.run(data) for contestant in present]
        print(f"{problem.name}: round {round_} of {n_rounds}", file=sys.stderr)
        if round_ > 0:
            for line, timing in zip(lines, timings, strict=True):
                line.add(timing, timings[0].epoch)
    return lines

"""Time per epoch as the validation set grows, with all of its rows in each step or a few drawn anew."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.timing.contestants import FLOOR, Contestant, fit_of_ours
from benchmarks.timing.epochs import Line, measure
from benchmarks.timing.loops import Timing, plain_step, time_loop
from benchmarks.timing.problems import Data, Problem

#: Rows that stand for the validation set where ``validation_batch_size`` is given.
DRAWN = 32


@dataclass(frozen=True)
class ValidationSize:
    """One weighting with that many validation rows, `drawn` of them in each step (None: all)."""

    weighting: str
    n_rows: int
    drawn: int | None

    @property
    def name(self) -> str:
        return f"{self.weighting}, {self.n_rows} rows, " + (
            "all" if self.drawn is None else f"{self.drawn} drawn"
        )


def sizes(*, quick: bool = False) -> list[ValidationSize]:
    """Return what is timed."""
    numbers = (10, 100) if quick else (10, 30, 100, 300, 1000)
    return [
        ValidationSize(weighting, n, drawn)
        for weighting in ("hu", "ours")
        for n in numbers
        for drawn in (None, DRAWN)
        if drawn is None or drawn < n
    ]


def measure_sizes(
    problem: Problem, found: list[ValidationSize], *, n_rounds: int, device: torch.device, clock: str
) -> list[Line]:
    """Time an epoch of each, in turns with the hand-written loop."""
    floor = Contestant(FLOOR, "hand-written loop", "floor", partial(time_loop, make_step=plain_step))
    entries = [Contestant(size.name, size.name, "ours", partial(_run, size=size)) for size in found]
    return measure(problem, [floor, *entries], n_rounds=n_rounds, device=device, clock=clock)


def _run(data: Data, size: ValidationSize) -> Timing:
    x_val, y_val = data.validation_rows(size.n_rows)
    return fit_of_ours(
        data, weighting=size.weighting, validation_data=(x_val, y_val), validation_batch_size=size.drawn
    )

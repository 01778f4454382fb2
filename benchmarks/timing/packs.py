"""Time per epoch and member of networks trained at once, and what memory they take."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import psutil
import torch

from benchmarks.timing.contestants import FLOOR, Contestant, classifier_of_ours, fit_of_ours
from benchmarks.timing.epochs import Line, measure
from benchmarks.timing.loops import Timing, plain_step, time_loop
from benchmarks.timing.memory import _peak, _reset_peak
from benchmarks.timing.problems import Data, Problem, mlp
from skreweight._pack.fit import fit_together

WEIGHTINGS = ("none", "absgd", "hu", "ours")
SIZES = (1, 4, 16, 64)
#: How often one network is trained in its turn.
N_TIMES = 7
#: Rounds of the wide networks, which take ten times as long.
WIDE_ROUNDS = 2
#: Rows of an epoch: 20 batches, so that a pack of 64 and one network take turns within seconds.
N_ROWS = 2_560


def pack_problems(*, quick: bool = False) -> list[Problem]:
    """Return the networks of two widths."""
    rows, batch = (256, 32) if quick else (N_ROWS, 128)
    return [
        mlp("mlp", (171, 100, 100, 2), rows, batch),
        mlp("mlp-wide", (171, 400, 400, 2), rows, batch),
    ]


def measure_packs(
    problem: Problem, sizes: Sequence[int], *, n_rounds: int, device: torch.device, clock: str
) -> list[Line]:
    """Time an epoch of packs, per member, in turns with the hand-written loop of one network."""
    loop = partial(time_loop, make_step=plain_step)
    floor = Contestant(
        FLOOR, "hand-written loop, one network", "floor", lambda data: _median(lambda: loop(data))
    )
    entries = [
        Contestant(f"{name} x{k}", f'"{name}", {k} at once', "ours", partial(_time_pack, weighting=name, k=k))
        for name in WEIGHTINGS
        for k in sizes
    ]
    label = f"matrix products of plain steps alone, {sizes[-1]} at once"
    products = Contestant("products", label, "floor", partial(_time_products, k=sizes[-1]))
    return measure(problem, [floor, products, *entries], n_rounds=n_rounds, device=device, clock=clock)


def _median(time_once: Callable[[], Timing]) -> Timing:
    """Repeat what is over in a hundredth of a second, and return the median."""
    return Timing(statistics.median(time_once().epoch for _ in range(N_TIMES)))


def _time_products(data: Data, *, k: int) -> Timing:
    """Time what no training goes below: each layer's outputs and gradient, and all but the first one's signals."""
    weights = [
        p.detach().expand(k, *p.shape).contiguous() for p in data.module().parameters() if p.dim() == 2
    ]
    size = data.problem.batch_size
    inputs = [torch.randn(k, size, w.shape[2], device=data.device) for w in weights]
    signals = [torch.randn(k, size, w.shape[1], device=data.device) for w in weights]
    begin = data.clock()
    for _ in range(data.problem.n_batches):
        for number, (w, a, d) in enumerate(zip(weights, inputs, signals, strict=True)):
            torch.bmm(a, w.mT)
            torch.bmm(d.mT, a)
            if number:
                torch.bmm(d, w)
    return Timing((data.clock() - begin) / k)


def _time_pack(data: Data, *, weighting: str, k: int) -> Timing:
    """Seconds of the second epoch, divided by the number of members."""
    if k == 1:
        return _median(lambda: fit_of_ours(data, weighting=weighting))
    nets = [classifier_of_ours(data, weighting=weighting).set_params(random_state=seed) for seed in range(k)]
    x, y = data.x.cpu().numpy(), data.y.cpu().numpy()
    stamps: list[float] = [data.clock()]
    fits = fit_together(nets, x, y, [np.arange(len(y))] * k, on_epoch=lambda _: stamps.append(data.clock()))
    if fits.packs != [k]:
        raise RuntimeError(f"{k} networks were trained in packs of {fits.packs}: {fits.alone or fits.errors}")
    return Timing((stamps[-1] - stamps[-2]) / k)


@dataclass(frozen=True)
class PackMemory:
    """Peak of the resident memory above what it was before the fit, in MB."""

    weighting: str
    k: int
    peak_mb: float


def measure_pack_memory(sizes: Sequence[int]) -> list[PackMemory]:
    """Return the peaks, each of a process of its own."""
    found = []
    for weighting in WEIGHTINGS:
        for k in sizes:
            command = [sys.executable, "-m", "benchmarks.timing.packs", weighting, str(k)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append(PackMemory(weighting, k, json.loads(printed)))
    return found


def _peak_of(weighting: str, k: int) -> float:
    torch.set_num_threads(1)
    data = Data(pack_problems()[0], torch.device("cpu"), time.perf_counter)
    _time_pack(data, weighting="none", k=2)  # what is loaded once
    before = psutil.Process().memory_info().rss
    _reset_peak()
    _time_pack(data, weighting=weighting, k=k)
    return (_peak() - before) / 1e6


if __name__ == "__main__":
    print(json.dumps(_peak_of(sys.argv[1], int(sys.argv[2]))))

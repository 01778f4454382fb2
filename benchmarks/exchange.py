"""What the processes of a data-parallel training send each other: bytes and messages per step, and time per step.

``python benchmarks/exchange.py`` starts two processes on this machine (gloo) and prints a table in Markdown. Bytes are
those that each process hands over to torch.distributed; times are wall clock over the steps of an epoch, and worth
nothing on a machine that does other things as well.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from skreweight import ReweightedClassifier
from skreweight.weighting import WEIGHTINGS

N_FEATURES, HIDDEN, BATCH, N_STEPS = 171, (100, 100), 128, 20


class Counted:
    """Counts what passes through torch.distributed."""

    def __init__(self) -> None:
        self.n_bytes = self.n_messages = 0
        for name in ("all_reduce", "all_gather"):
            setattr(dist, name, self._counting(getattr(dist, name)))

    def _counting(self, send: Any) -> Any:
        def counted(first: Any, *args: Any, **kwargs: Any) -> Any:
            own = args[0] if isinstance(first, list) else first
            self.n_bytes += own.numel() * own.element_size()
            self.n_messages += 1
            return send(first, *args, **kwargs)

        return counted


def measured(weighting: str, counted: Counted | None) -> tuple[float, float, float]:
    """Return bytes, messages and milliseconds of a step of stage 2: the difference of two epochs' counts and one's."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N_STEPS * BATCH, N_FEATURES), dtype=np.float32)
    y = (X[:, 0] > 1).astype(np.int64)
    X_val, y_val = np.concatenate([X[y == 0][:10], X[y == 1][:10]]), np.repeat([0, 1], 10)
    found = []
    for n_epochs in (1, 3):
        net = ReweightedClassifier(
            weighting=weighting,
            module__hidden=HIDDEN,
            warmup_epochs=0,
            max_epochs=n_epochs,
            batch_size=BATCH,
            device="cpu",
            random_state=0,
            keep_best=False,
        )
        before = (0, 0) if counted is None else (counted.n_bytes, counted.n_messages)
        begin = time.perf_counter()
        net.fit(X, y, X_val=X_val, y_val=y_val)
        took = time.perf_counter() - begin
        now = (0, 0) if counted is None else (counted.n_bytes, counted.n_messages)
        found.append((now[0] - before[0], now[1] - before[1], took))
    per_step = [(b - a) / (2 * N_STEPS) for a, b in zip(*found, strict=True)]
    return per_step[0], per_step[1], 1000 * per_step[2]


def work(names: list[str]) -> None:
    """Print one line a weighting, in the first of the processes."""
    alone = not int(os.environ.get("WORLD_SIZE", "1")) > 1
    counted = None if alone else Counted()
    for name in names:
        n_bytes, n_messages, took = measured(name, counted)
        if int(os.environ.get("RANK", "0")) == 0:
            print(name, n_bytes, n_messages, took, flush=True)


def run(n: int, names: list[str]) -> dict[str, list[float]]:
    """Measure in n processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    told = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    told["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", *names],
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(n)
    ]
    outputs = [p.communicate()[0] for p in processes]
    lines = outputs[0].splitlines()
    return {name: [float(v) for v in rest] for name, *rest in (line.split() for line in lines)}


def main() -> None:
    """Measure in one and in two processes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(WEIGHTINGS), help="weightings")
    parser.add_argument("--work", action="store_true", help="be one of the processes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.work:
        work(arguments.names)
        return
    one, two = run(1, arguments.names), run(2, arguments.names)
    sizes = [N_FEATURES, *HIDDEN, 2]
    print(f"network {'-'.join(map(str, sizes))}, B = {BATCH}, 20 validation rows, float32\n")
    print("| `weighting=` | bytes a step | messages a step | ms a step, 1 process | ms a step, 2 processes |")
    print("|---|---|---|---|---|")
    for name, (n_bytes, n_messages, took) in two.items():
        print(f'| `"{name}"` | {n_bytes:,.0f} | {n_messages:.1f} | {one[name][2]:.2f} | {took:.2f} |')


if __name__ == "__main__":
    main()

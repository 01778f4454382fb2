"""What the processes of a data-parallel training send each other, and when two of them are faster than one.

``python benchmarks/exchange.py`` starts two processes on this machine (gloo), counts what each hands over to
torch.distributed in a step, and prints a table in Markdown. ``--times`` measures instead: the time of a step in one
process and in two, in turns within the same two processes, and of messages; both tables of docs/scaling.md are its own.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from skreweight import ReweightedClassifier
from skreweight._training.step import TrainingStep
from skreweight.weighting import WEIGHTINGS

#: Of the counts.
N_FEATURES, HIDDEN, BATCH, N_STEPS = 171, (100, 100), 128, 20
#: Vectors like the parameters that a step of stage 2 sums over processes; the others send one. "ours": two for each
#: constraint step, of which there is one by default.
GRADIENTS = {"hu": 2, "meta": 2, "meta-weight-net": 2, "ours": 4}
#: Of the times: features, hidden layers, classes, rows of a batch, steps, weighting. A step of eight rows is hardly
#: more than what a step costs besides its arithmetic, in one process and in two.
TIMED = [
    (171, (100, 100), 2, 8, 60, "none"),
    (171, (100, 100), 2, 8, 20, "ours"),
    (171, (100, 100), 2, 128, 40, "none"),
    (171, (100, 100), 2, 128, 20, "ours"),
    (171, (100, 100), 2, 4096, 8, "none"),
    (512, (512, 512), 10, 128, 20, "none"),
    (512, (512, 512), 10, 1024, 8, "none"),
    (512, (512, 512), 10, 4096, 3, "none"),
    (512, (512, 512), 10, 1024, 3, "ours"),
    (1024, (2048, 2048), 100, 128, 5, "none"),
    (1024, (2048, 2048), 100, 1024, 2, "none"),
]
N_ROUNDS = 5


def n_parameters(n_features: int, hidden: tuple[int, ...], n_classes: int) -> int:
    """Return P, weights and biases of a chain of layers."""
    sizes = [n_features, *hidden, n_classes]
    return sum((a + 1) * b for a, b in pairwise(sizes))


def n_trained(weighting: str, n_features: int, hidden: tuple[int, ...], n_classes: int) -> int:
    """Return how many parameters stage 2 trains: "crt" has the last layer, "lws" a number for each class."""
    if weighting == "lws":
        return n_classes
    return (
        n_parameters(hidden[-1], (), n_classes)
        if weighting == "crt"
        else n_parameters(n_features, hidden, n_classes)
    )


def bytes_of_gradients(weighting: str, n_trained: int) -> int:
    """Return what a step sends at least, in float32: its gradients, beside which there are some numbers a row."""
    return GRADIENTS.get(weighting, 1) * 4 * n_trained


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


def _fit(
    weighting: str,
    n_features: int,
    hidden: tuple[int, ...],
    n_classes: int,
    batch: int,
    n_steps: int,
    n_epochs: int,
    distributed: Any,
) -> int:
    """Train stage 2 alone; return the number of steps."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_steps * batch, n_features), dtype=np.float32)
    y = np.arange(len(X)) % n_classes
    X_val, y_val = X[: 10 * n_classes], y[: 10 * n_classes]
    net = ReweightedClassifier(
        weighting=weighting,
        module__hidden=hidden,
        warmup_epochs=0,
        max_epochs=n_epochs,
        batch_size=batch,
        device="cpu",
        random_state=0,
        keep_best=False,
        distributed=distributed,
    )
    net.fit(X, y, X_val=X_val, y_val=y_val)
    return sum(net.history_[:, "train_batch_count"])


def _counts(names: list[str]) -> Iterator[dict[str, Any]]:
    """Bytes and messages of a step of stage 2: the difference of three epochs' counts and one's."""
    counted = Counted()
    for name in names:
        found = []
        for n_epochs in (1, 3):
            before = counted.n_bytes, counted.n_messages
            n_steps = _fit(name, N_FEATURES, HIDDEN, 2, BATCH, N_STEPS, n_epochs, "auto")
            found.append((counted.n_bytes - before[0], counted.n_messages - before[1], n_steps))
        n_bytes, n_messages, n_steps = (b - a for a, b in zip(*found, strict=True))
        yield {"weighting": name, "bytes": n_bytes / n_steps, "messages": n_messages / n_steps}


def _messages() -> Iterator[dict[str, Any]]:
    """Milliseconds of an all_reduce of so many float32, the shortest of many."""
    for n in (1, *sorted({n_parameters(*case[:3]) for case in TIMED})):
        values, took = torch.zeros(n), []
        for _ in range(40 if n < 10**6 else 10):
            dist.barrier()
            begin = time.perf_counter()
            dist.all_reduce(values)
            took.append(1000 * (time.perf_counter() - begin))
        yield {"numbers": n, "ms": min(took)}


class Timed:
    """Takes the time of every step of training in this process, messages included."""

    def __init__(self) -> None:
        self.ms: list[float] = []
        step = TrainingStep.__call__

        def timed(own: TrainingStep, batch: Any) -> Any:
            begin = time.perf_counter()
            outcome = step(own, batch)
            self.ms.append(1000 * (time.perf_counter() - begin))
            return outcome

        TrainingStep.__call__ = timed  # type: ignore[method-assign]


def _times(cases: list[Any], n_rounds: int) -> Iterator[dict[str, Any]]:
    """Milliseconds of the fastest step of each round, in the first process alone and in both together, in turns."""
    timed = Timed()
    for n_features, hidden, n_classes, batch, n_steps, weighting in cases:
        found: dict[Any, list[float]] = {False: [], "auto": []}
        for turn in range(-1, n_rounds):  # one to warm up
            for distributed, fastest in found.items():
                timed.ms = []
                dist.barrier()
                if dist.get_rank() == 0 or distributed == "auto":
                    _fit(weighting, n_features, hidden, n_classes, batch, n_steps, 1, distributed)
                dist.barrier()
                if turn >= 0:
                    fastest.append(min(timed.ms or [0.0]))
        yield {
            "sizes": [n_features, *hidden, n_classes],
            "batch": batch,
            "weighting": weighting,
            "alone": found[False],
            "together": found["auto"],
        }


def work(what: str, arguments: Any) -> None:
    """Be one of the processes; the first prints a line of JSON for each thing measured."""
    dist.init_process_group("gloo")
    lines = {"count": _counts, "messages": lambda _: _messages(), "times": lambda n: _times(TIMED, n)}
    for line in lines[what](arguments):
        if dist.get_rank() == 0:
            print(json.dumps(line), flush=True)
    dist.destroy_process_group()


def run(what: str, arguments: Any = None, n: int = 2) -> list[dict[str, Any]]:
    """Measure in n processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    told = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    told["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--work", json.dumps([what, arguments])],
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(n)
    ]
    outputs = [p.communicate()[0] for p in processes]
    failed = [p.returncode for p in processes if p.returncode]
    if failed:
        raise RuntimeError(f"A process ended with code {failed[0]}: its errors stand above.")
    return [json.loads(line) for line in outputs[0].splitlines()]


def table_of_counts(names: list[str]) -> str:
    """Return the table of what a step sends."""
    sizes = "-".join(map(str, [N_FEATURES, *HIDDEN, 2]))
    lines = [
        f"Network {sizes}, batches of {BATCH} rows, 20 validation rows, float32; a step of stage 2:\n",
        "| `weighting=` | vectors | numbers in each | bytes a step | beside the vectors | messages a step |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for line in run("count", names):
        name, n_bytes = line["weighting"], line["bytes"]
        trained = n_trained(name, N_FEATURES, HIDDEN, 2)
        cells = [f'`"{name}"`', GRADIENTS.get(name, 1), f"{trained:,}", f"{n_bytes:,.0f}"]
        cells += [f"{n_bytes - bytes_of_gradients(name, trained):,.0f}", f"{line['messages']:.1f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def tables_of_times(n_rounds: int) -> str:
    """Return the tables of messages and steps, and what the formula of docs/scaling.md makes of the former.

    Times are those of the fastest step of all rounds, which what else the machine does disturbs least.
    """
    messages = run("messages")
    latency, largest = messages[0]["ms"], messages[-1]
    per_number = (largest["ms"] - latency) / largest["numbers"]
    lines = ["| float32 numbers | ms a sum over two processes |", "|---:|---:|"]
    lines += [f"| {m['numbers']:,} | {m['ms']:.2f} |" for m in messages]
    lines += [
        "",
        "| network | P | B | `weighting=` | ms, one process | ms, two | times as fast (by round) | formula |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    least: dict[str, tuple[float, float, int]] = {}
    for line in run("times", n_rounds):
        sizes, alone, together = line["sizes"], min(line["alone"]), min(line["together"])
        ratios = [a / b for a, b in zip(line["alone"], line["together"], strict=True)]
        n_given = n_parameters(sizes[0], tuple(sizes[1:-1]), sizes[-1])
        own, own_together, n_small = least.setdefault(line["weighting"], (alone, together, n_given))
        vectors = GRADIENTS.get(line["weighting"], 1) * per_number * (n_given - n_small)
        expected = alone / (own_together + (alone - own) / 2 + vectors)
        spread = f"{alone / together:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        name = f'`"{line["weighting"]}"`'
        cells = ["-".join(map(str, sizes)), f"{n_given:,}", line["batch"], name]
        cells += [f"{alone:.2f}", f"{together:.2f}", spread, f"{expected:.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    lines.append(
        f"\n{n_rounds} rounds in turns, {os.cpu_count()} cores, load {load:.1f} at the end (two are these)."
    )
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=list(WEIGHTINGS), help="weightings whose messages are counted"
    )
    parser.add_argument("--times", action="store_true", help="measure steps and messages instead")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS, help="of the times")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.work:
        work(*json.loads(arguments.work))
    else:
        print(tables_of_times(arguments.rounds) if arguments.times else table_of_counts(arguments.names))


if __name__ == "__main__":
    main()

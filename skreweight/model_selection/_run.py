"""All fits of a search: in packs over processes, and the plain way what cannot be packed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed

from skreweight._pack.memory import Budget, free_bytes
from skreweight.model_selection._backend import Call
from skreweight.model_selection._evaluate import Report, Results, evaluate
from skreweight.model_selection._progress import Progress
from skreweight.model_selection._task import Task, why_not_packed

#: Share of the free memory that packs may take, over all processes.
MEMORY_SHARE = 0.25
#: Packs take at least this many bytes, and no more than some times what X takes above it.
LEAST_BYTES = 2**28
TIMES_X = 2


def run(
    calls: Sequence[Call], *, n_jobs: int | None, pre_dispatch: Any, max_pack_size: int | None, verbose: int
) -> tuple[list[Any], Report]:
    """Answer the calls that scikit-learn's search makes.

    Parameters
    ----------
    calls : sequence of Call
    n_jobs : int or None
        Processes over which packs are spread.
    pre_dispatch : int or str
        Of what is fitted the plain way.
    max_pack_size : int or None
        The most networks that are trained at once; None: as memory allows.
    verbose : int
        Above 0 shows a progress bar.

    Returns
    -------
    results : list
        In the order of the calls.
    report : Report
    """
    report, results = Report(), [None] * len(calls)
    parts: list[list[int]] = []
    packed, n_epochs = [], []
    tasks = [Task(call) for call in calls]
    for number, task in enumerate(tasks):
        reason = why_not_packed(task)
        if reason is None:
            net = task.last_step[1]
            n_epochs.append(net.warmup_epochs + net.max_epochs)
            packed.append(number)
        else:
            n_epochs.append(1)
            report.note_alone(reason)
            parts.append([number])
    n_plain, n_processes = len(parts), effective_n_jobs(n_jobs)
    parts += _cut(packed, tasks, n_processes)
    budget = _budget(tasks, max_pack_size, n_processes)
    with Progress(n_epochs, shown=verbose > 0) as progress:
        # Processes tell of a part when it is done; within this one every epoch is told.
        on_epoch = progress.advance if n_processes == 1 else None
        jobs = (
            delayed(_plain if place < n_plain else evaluate)([tasks[k] for k in part], budget, on_epoch)
            for place, part in enumerate(parts)
        )
        parallel = Parallel(n_jobs=n_jobs, pre_dispatch=pre_dispatch, return_as="generator")
        for part, (answers, part_report) in zip(parts, parallel(jobs), strict=True):
            report.add(part_report)
            for number, answer in zip(part, answers, strict=True):
                results[number] = answer
            progress.finish(part)
    return results, report


def _plain(tasks: Sequence[Task], _: Budget, __: Any) -> tuple[Results, Report]:
    return [task.run() for task in tasks], Report()


def _cut(numbers: list[int], tasks: list[Task], n_parts: int) -> list[list[int]]:
    """Cut tasks into parts of one size, those of a unit next to each other."""
    units: dict[Any, list[int]] = {}
    for number in numbers:
        units.setdefault(tasks[number].unit, []).append(number)
    ordered = [number for unit in units.values() for number in unit]
    ends = [len(ordered) * part // n_parts for part in range(n_parts + 1)]
    return [ordered[a:b] for a, b in pairwise(ends) if b > a]


def _budget(tasks: list[Task], max_pack_size: int | None, n_processes: int) -> Budget:
    if max_pack_size is not None or not tasks:
        return Budget(max_members=max_pack_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    free = free_bytes(device)
    if free is None:
        return Budget()
    share = int(MEMORY_SHARE * free) // n_processes
    if device.type == "cpu":
        share = min(share, LEAST_BYTES + TIMES_X * int(getattr(tasks[0].call[1][1], "nbytes", 0)))
    return Budget(n_bytes=share)

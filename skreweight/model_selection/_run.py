"""All fits of a search: in packs over processes, and the plain way what cannot be packed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from joblib import cpu_count, effective_n_jobs

from skreweight._pack.memory import Budget, free_bytes
from skreweight._pack.spread import spread
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
        The most fits that are trained at once, and by themselves: in the same packs however many processes there are.
        None: as many as memory allows, a part of all for each process.
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
    parts += _cut(packed, tasks, n_processes, max_pack_size)
    if singles := sum(len(part) == 1 for part in parts[n_plain:]):
        report.note_alone("left over by max_pack_size or n_jobs", singles)
    budget = _budget(tasks, max_pack_size, n_processes)
    with Progress(n_epochs, shown=verbose > 0) as progress:
        # Processes tell of a part when it is done; within this one every epoch is told.
        on_epoch = progress.advance if n_processes == 1 else None
        rows = tasks[0].rows if tasks else ()
        sent = tasks if n_processes == 1 else [task.without(rows) for task in tasks]
        jobs = [([sent[k] for k in part],) for part in parts]
        common = (rows, budget, on_epoch)
        of_parts = spread(_of_part, common, jobs, n_jobs=n_jobs, pre_dispatch=pre_dispatch)
        for part, (answers, part_report) in zip(parts, of_parts, strict=True):
            report.add(part_report)
            for number, answer in zip(part, answers, strict=True):
                results[number] = answer
            progress.finish(part)
    return results, report


def _of_part(
    rows: tuple[Any, ...], budget: Budget, on_epoch: Any, tasks: Sequence[Task]
) -> tuple[Results, Report]:
    """Return the results of tasks, whose rows come beside them; one alone is run the plain way."""
    whole = [task.on(rows) for task in tasks]
    if len(whole) == 1:
        return [whole[0].run()], Report()
    return evaluate(whole, budget, on_epoch)


def _cut(numbers: list[int], tasks: list[Task], n_parts: int, most: int | None) -> list[list[int]]:
    """Cut tasks into parts, those of a unit next to each other.

    As many parts of one size as there are processes; or parts of at most so many tasks, whatever runs them: packs of
    another size round in other ways.
    """
    units: dict[Any, list[int]] = {}
    for number in numbers:
        units.setdefault(tasks[number].unit, []).append(number)
    if most is None:
        return _evenly([number for unit in units.values() for number in unit], n_parts)
    parts: list[list[int]] = []
    for unit in units.values():
        if parts and len(parts[-1]) + len(unit) <= most:
            parts[-1] += unit
        else:
            parts += _evenly(unit, -(-len(unit) // most))
    return parts


def _evenly(numbers: list[int], n_parts: int) -> list[list[int]]:
    ends = [len(numbers) * part // n_parts for part in range(n_parts + 1)]
    return [numbers[a:b] for a, b in pairwise(ends) if b > a]


def _budget(tasks: list[Task], max_pack_size: int | None, n_processes: int) -> Budget:
    if max_pack_size is not None or not tasks:
        return Budget(max_members=max_pack_size)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    free = free_bytes(device)
    if free is None:
        return Budget()
    share = int(MEMORY_SHARE * free) // min(n_processes, cpu_count())  # more are on other machines
    if device.type == "cpu":
        share = min(share, LEAST_BYTES + TIMES_X * int(getattr(tasks[0].call[1][1], "nbytes", 0)))
    return Budget(n_bytes=share)

"""Fits and scores of many tasks, in packs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.utils.validation import _num_samples

from skreweight._classifier import ReweightedClassifier
from skreweight._pack.fit import Fits, OnEpoch, fit_on_tables
from skreweight._pack.memory import BYTES_OF_ROW, Budget
from skreweight._pack.predict import outputs_of
from skreweight._pack.tables import Table
from skreweight.model_selection._stand_ins import Done, KnownOutputs, of_done, reads_predictions_alone
from skreweight.model_selection._task import Task
from skreweight.model_selection._unit import Unit, unit_of


@dataclass
class Report:
    """What has become of the fits of a search.

    Attributes
    ----------
    packs : list of int
        Sizes.
    shared : int
        Fits whose stage 1 another one's served.
    alone : dict of str to int
        How many were fitted one by one, by the reason.
    """

    packs: list[int] = field(default_factory=list)
    shared: int = 0
    alone: dict[str, int] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        """Count what another one counts."""
        self.packs += other.packs
        self.shared += other.shared
        for reason, n in other.alone.items():
            self.note_alone(reason, n)

    def note_alone(self, reason: str, n: int = 1) -> None:
        """Count fits that were no part of a pack."""
        self.alone[reason] = self.alone.get(reason, 0) + n

    def __str__(self) -> str:
        """Return it in words, a line each."""
        n_alone, n_packed = sum(self.alone.values()), sum(self.packs)
        text = f"{n_packed} of {n_packed + n_alone} fits were trained in packs"
        if self.packs:
            text += f" ({len(self.packs)}, of up to {max(self.packs)} networks)"
        text += f"; {self.shared} shared another one's stage 1"
        lines = [f"{text}."]
        lines += [f"{n} fitted one by one: {reason}." for reason, n in self.alone.items()]
        return "\n".join(lines)


Results = list[dict[str, Any]]


def evaluate(
    tasks: Sequence[Task], budget: Budget, on_epoch: OnEpoch | None = None
) -> tuple[Results, Report]:
    """Fit and score tasks together.

    Parameters
    ----------
    tasks : sequence of Task
        Each of which can be part of a pack.
    budget : Budget
    on_epoch : callable (n_fits) or None, default=None
        Called at the end of each epoch, with the number of fits that have come so far.

    Returns
    -------
    results : list of dict
        As scikit-learn's ``_fit_and_score`` returns them, in the order of the tasks.
    report : Report
    """
    groups: dict[Any, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.unit, []).append(task)
    report = Report()
    found: dict[int, dict[str, Any]] = {}
    for units in _chunks(list(groups.values()), budget, found, report):
        _evaluate_units(units, budget, found, report, on_epoch)
    return [found[id(task)] for task in tasks], report


def _chunks(
    groups: list[list[Task]], budget: Budget, found: dict[int, dict[str, Any]], report: Report
) -> Iterator[list[Unit]]:
    """Units whose members can stand in memory at once; tasks that cannot begin are run the plain way."""
    shared: list[Table] = []
    chunk: list[Unit] = []
    for tasks in groups:
        unit = unit_of(tasks, shared)
        if unit is None:
            report.note_alone("what comes before its last step failed", len(tasks))
            found |= {id(task): task.run() for task in tasks}
            continue
        if chunk and not _has_room([*chunk, unit], budget):
            yield chunk
            chunk = []
        chunk.append(unit)
    if chunk:
        yield chunk


def _has_room(units: list[Unit], budget: Budget) -> bool:
    """Whether the members of several units can be those of one pack."""
    if budget.n_bytes is None:
        return True
    tables = {id(unit.table): unit.table for unit in units}.values()
    n_rows = sum(_num_samples(table.X) for table in tables)
    n_columns = max(int(np.prod(getattr(table.X, "shape", (0, 1))[1:])) for table in tables)
    n_members = sum(len(unit.tasks) for unit in units)
    return n_rows * (8 * n_columns * (len(tables) > 1) + BYTES_OF_ROW * n_members) <= budget.n_bytes


def _evaluate_units(
    units: list[Unit],
    budget: Budget,
    found: dict[int, dict[str, Any]],
    report: Report,
    on_epoch: OnEpoch | None,
) -> None:
    tables = list({id(unit.table): unit.table for unit in units}.values())
    nets = [net for unit in units for net in unit.nets]
    of = [tables.index(unit.table) for unit in units for _ in unit.nets]
    rows = [unit.rows for unit in units for _ in unit.nets]
    fits = fit_on_tables(nets, tables, of, rows, budget=budget, on_epoch=on_epoch)
    _count(fits, report)
    ends = iter(zip(fits.errors, fits.seconds, strict=True))
    for unit in units:
        _score_unit(unit, [next(ends) for _ in unit.nets], found)


def _count(fits: Fits, report: Report) -> None:
    alone = {reason: len(numbers) for reason, numbers in fits.alone.items()}
    report.add(Report([size for size in fits.packs if size > 1], fits.shared, alone))
    if singles := fits.packs.count(1):
        report.note_alone("left over, or no other agrees with it in stage 2", singles)
    n_lost = len(fits.errors) - sum(fits.packs) - sum(alone.values())
    if n_lost:
        report.note_alone("it failed before the first step, or in stage 1", n_lost)


def _score_unit(
    unit: Unit, ends: list[tuple[BaseException | None, float]], found: dict[int, dict[str, Any]]
) -> None:
    """Score the members of a unit: out of outputs that are computed for all of them at once, where scorers allow it."""
    scorer, first = unit.tasks[0].settings["scorer"], unit.tasks[0]
    positions = np.arange(_num_samples(first.call[1][1]))
    fitted = [net for net, (error, _) in zip(unit.nets, ends, strict=True) if error is None]
    known: dict[int, list[Any]] = {id(net): [] for net in fitted}
    started = time.perf_counter()
    if reads_predictions_alone(scorer) and not first.settings["score_params"]:
        for numbers, features in unit.scored_on:
            for net, outputs in zip(fitted, outputs_of(fitted, features), strict=True):
                known[id(net)].append(None if outputs is None else (numbers, outputs))
    share = (time.perf_counter() - started) / max(1, len(fitted))
    for task, net, (error, seconds) in zip(unit.tasks, unit.nets, ends, strict=True):
        if error is not None:
            result = task.as_if(Done(error=error), positions, verbose=0)
        else:
            result = _scored(task, unit, net, known[id(net)], positions)
        result["fit_time"] = seconds + unit.seconds / len(unit.tasks)
        result["score_time"] += share
        task.say(result)
        found[id(task)] = result


def _scored(
    task: Task, unit: Unit, net: ReweightedClassifier, known: list[Any], positions: Any
) -> dict[str, Any]:
    if known and None not in known:
        return task.as_if(KnownOutputs.of(net, len(positions), known), positions, verbose=0)
    return task.as_if(Done(unit.whole(net)), scorer=of_done(task.settings["scorer"]), verbose=0)

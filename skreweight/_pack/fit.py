"""Fits of many estimators in as few passes as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from torch import Tensor

from skreweight._classifier import ReweightedClassifier
from skreweight._composition import begun, train
from skreweight._net.checkpoint import CheckpointFile
from skreweight._pack.memory import Budget
from skreweight._pack.pack import Pack
from skreweight._pack.rows import JudgedOn, Member, on_device
from skreweight._pack.suited import FAILURES, agreement, same_stage_two, why_alone, why_module_alone
from skreweight._pack.tables import Table
from skreweight._rows.check import encode, labels_of, rows_of
from skreweight._rows.place import Labelled, cast_by_batch


@dataclass
class Fits:
    """What has become of the estimators.

    Attributes
    ----------
    errors : list of BaseException or None
        By estimator; None where it is fitted.
    alone : dict of str to list of int
        Estimators that were fitted by themselves, by the reason.
    packs : list of int
        Sizes of the packs of stage 2.
    shared : int
        Estimators whose stage 1 another one's served.
    """

    errors: list[BaseException | None]
    alone: dict[str, list[int]] = field(default_factory=dict)
    packs: list[int] = field(default_factory=list)
    shared: int = 0


def fit_together(
    nets: Sequence[ReweightedClassifier],
    X: Any,
    y: Any,
    rows: Sequence[NDArray[np.int64]],
    *,
    sample_weight: Any = None,
    X_val: Any = None,
    y_val: Any = None,
    judged: Sequence[JudgedOn] | None = None,
    max_members: int | None = None,
    on_epoch: Callable[[], None] | None = None,
    checkpoint: CheckpointFile | None = None,
) -> Fits:
    """Fit every estimator on some rows of X, as its own ``fit`` would, many of them at once.

    Parameters
    ----------
    nets : sequence of ReweightedClassifier
        Not fitted; afterwards they are, but for those with an error.
    X, y : array-like of shape (N, n_features) and (N,)
    rows : sequence of ndarray
        Which rows of X each is fitted on.
    sample_weight : array-like of shape (N,) or None, default=None
    X_val, y_val : array-like or None, default=None
        Validation rows, the same for all.
    judged : sequence of (ndarray, ndarray) or None, default=None
        Rows of X on which each estimator is judged instead of its validation rows, by the loss alone, and how much
        each of them counts.
    max_members : int or None, default=None
        The most networks that are trained at once; None: all.
    on_epoch : callable () or None, default=None
        Called at the end of each epoch of a pack.
    checkpoint : CheckpointFile or None, default=None
        Where the fits are saved, and go on from.

    Returns
    -------
    Fits
    """
    tables = [Table(X, y, sample_weight, X_val, y_val)]
    return fit_on_tables(
        nets,
        tables,
        [0] * len(nets),
        rows,
        judged=judged,
        budget=Budget(max_members=max_members),
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )


def fit_on_tables(
    nets: Sequence[ReweightedClassifier],
    tables: Sequence[Table],
    of: Sequence[int],
    rows: Sequence[NDArray[np.int64] | None],
    *,
    judged: Sequence[JudgedOn] | None = None,
    budget: Budget | None = None,
    on_epoch: Callable[[], None] | None = None,
    checkpoint: CheckpointFile | None = None,
) -> Fits:
    """Fit every estimator on some rows of one of several tables, many of them at once.

    Parameters
    ----------
    nets : sequence of ReweightedClassifier
        Not fitted; afterwards they are, but for those with an error.
    tables : sequence of Table
    of : sequence of int
        Which of the tables each is fitted on.
    rows : sequence of ndarray or None
        Which rows of that; None: all.
    judged : sequence of (ndarray, ndarray) or None, default=None
        Rows of the table on which each is judged instead of its validation rows, and how much each of them counts.
    budget : Budget or None, default=None
        How many networks are trained at once; None: as many as there are.
    on_epoch : callable () or None, default=None
        Called at the end of each epoch of a pack.
    checkpoint : CheckpointFile or None, default=None
        Where the fits are saved, and go on from.

    Returns
    -------
    Fits
    """
    fits = Fits([None] * len(nets))
    groups = _groups(nets, tables, of, rows, judged, fits)
    placed = _Placed(tables)
    for members in groups:
        reason = "no other agrees with it" if len(members) == 1 else placed.why_not(members)
        if reason is None:
            try:
                _fit_group(*placed.joined(members), fits, budget or Budget(), on_epoch, checkpoint)
            except FAILURES as error:
                reason = f"its pack failed ({_first_line(error)})"
        if reason is not None:
            fits.alone.setdefault(reason, []).extend(m.number for m in members)
    for number in sorted(k for numbers in fits.alone.values() for k in numbers):
        fits.errors[number] = None  # of a pack that failed half-way
        with _noted(fits, number):
            table = tables[of[number]]
            own = None if judged is None else _labelled(nets[number], table, *judged[number])
            part = None if checkpoint is None else checkpoint.next_run()
            data = table.some(rows[number])
            train(nets[number], *data, goes_on=False, learns=True, judged=own, checkpoint=part)
    return fits


def _groups(
    nets: Sequence[ReweightedClassifier],
    tables: Sequence[Table],
    of: Sequence[int],
    rows: Sequence[NDArray[np.int64] | None],
    judged: Sequence[JudgedOn] | None,
    fits: Fits,
) -> list[list[Member]]:
    """Begin every fit that can be part of a pack, and put those together that agree."""
    groups: dict[Any, list[Member]] = {}
    some: tuple[Any, tuple[Any, ...]] | None = None
    for number, (net, table, own) in enumerate(zip(nets, of, rows, strict=True)):
        reason = why_alone(net, tables[table].X)
        if reason is None:
            with _noted(fits, number):
                if some is None or some[0] != (table, id(own)):
                    some = (table, id(own)), tables[table].some(own)
                given = begun(net, *some[1])
                reason = why_module_alone(net.module_)
                if any(p.requires_grad for p in net.criterion_.parameters()):
                    reason = "its criterion has parameters that are trained"
                if reason is None:
                    all_of_it = np.arange(len(given.labelled)) if own is None else np.asarray(own)
                    # The rows are those of the table: K members must not hold K copies.
                    given = replace(given, labelled=replace(given.labelled, features=None))
                    judged_on = None if judged is None else judged[number]
                    member = Member(net, given, all_of_it, number, table, judged_on)
                    groups.setdefault((agreement(net), member.sizes), []).append(member)
        if reason is not None:
            fits.alone.setdefault(reason, []).append(number)
    return list(groups.values())


class _Placed:
    """The rows of the tables as tensors, one after another where a pack's members are of several."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables
        self._features: dict[Any, Tensor] = {}

    def why_not(self, members: list[Member]) -> str | None:
        """Return why the members' rows cannot be those of a pack."""
        net = members[0].net
        whole = (self._of(m.table, net) for m in _one_of_each_table(members))
        by_batch = any(cast_by_batch(features, net._floating_dtype()) for features in whole)
        return "X is cast batch by batch" if by_batch else None

    def _of(self, table: int, net: ReweightedClassifier) -> Tensor:
        key = table, str(net.device), net._floating_dtype(), net.module is None
        if key not in self._features:
            x, _ = rows_of(
                self._tables[table].X, None, owner=type(net).__name__, allow_nd=net.module is not None
            )
            assert isinstance(x, Tensor)
            self._features = {k: v for k, v in self._features.items() if k[1:] == key[1:]}
            self._features[key] = x if cast_by_batch(x, net._floating_dtype()) else on_device(x, net)
        return self._features[key]

    def joined(self, members: list[Member]) -> tuple[list[Member], Tensor, Tensor]:
        """Return the members with numbers of rows in the pack's X, that X, and its class codes."""
        first: dict[int, int] = {}
        features, codes, n_rows = [], [], 0
        for member in _one_of_each_table(members):
            table = self._tables[member.table]
            features.append(self._of(member.table, member.net))
            codes.append(encode(labels_of(table.X, table.y), member.net.labels_))
            first[member.table] = n_rows
            n_rows += len(codes[-1])
        x = features[0] if len(features) == 1 else torch.cat(features)
        moved = [m.moved_by(first[m.table]) for m in members]
        return moved, x, torch.from_numpy(np.concatenate(codes)).to(x.device)


def _one_of_each_table(members: list[Member]) -> list[Member]:
    return list({m.table: m for m in reversed(members)}.values())[::-1]


def _labelled(
    net: ReweightedClassifier, table: Table, rows: NDArray[np.int64], weights: NDArray[np.float64]
) -> Labelled:
    """Rows of a table that a network by itself is judged on."""
    features, _ = rows_of(
        _safe_indexing(table.X, rows), None, owner=type(net).__name__, allow_nd=net.module is not None
    )
    labels = labels_of(table.X, table.y)
    return Labelled(features, encode(labels[rows], np.unique(labels)), weights)


@contextmanager
def _noted(fits: Fits, number: int) -> Iterator[None]:
    """Keep what goes wrong with one estimator from the others."""
    try:
        yield
    except FAILURES as error:
        fits.errors[number] = error


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _fit_group(
    members: list[Member],
    X: Tensor,
    codes: Tensor,
    fits: Fits,
    budget: Budget,
    on_epoch: Callable[[], None] | None,
    checkpoint: CheckpointFile | None,
) -> None:
    """Train stage 1 once for all that agree in it, then stage 2 method by method."""
    starts: dict[Any, list[Member]] = {}
    for member in members:
        starts.setdefault(member.start, []).append(member)
    shared = list(starts.values())
    most = budget.members(members[0].net, X, len(members))
    packs = []
    for first in range(0, len(shared), most):
        some = shared[first : first + most]
        pack = Pack([sharing[0] for sharing in some], X, codes)
        pack.train_stage_one([[m.net for m in sharing] for sharing in some], on_epoch, checkpoint)
        place = {member.number: k for k, sharing in enumerate(some) for member in sharing}
        for method in _by_stage_two([member for sharing in some for member in sharing]):
            lost = [m for m in method if pack.has_failed(place[m.number])]
            left = [m for m in method if not pack.has_failed(place[m.number])]
            parts = [left[begin : begin + most] for begin in range(0, len(left), most)]
            for part in [*parts, lost] if lost else parts:
                own = pack.repeated(part, torch.tensor([place[m.number] for m in part]))
                own.train(0 if part is lost else part[0].net.max_epochs, on_epoch, checkpoint)
                for number, error in own.give_back().items():
                    fits.errors[number] = error
            packs += [len(part) for part in parts]
    fits.packs += packs
    fits.shared += len(members) - len(shared)


def _by_stage_two(members: list[Member]) -> list[list[Member]]:
    """Members whose second stages can be those of one pack, together."""
    groups: list[list[Member]] = []
    for member in members:
        for group in groups:
            if same_stage_two(group[0].net, member.net):
                group.append(member)
                break
        else:
            groups.append([member])
    return groups

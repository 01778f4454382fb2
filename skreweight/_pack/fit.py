"""Fits of many estimators in as few passes as can be."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from torch import Tensor

from skreweight._classifier import ReweightedClassifier
from skreweight._composition import Known, begun, train
from skreweight._net.checkpoint import CheckpointFile
from skreweight._net.indices import has_lookup, rows_for
from skreweight._pack.failures import FAILURES, first_line, is_out_of_memory, is_own_defect, is_refusal
from skreweight._pack.memory import Budget
from skreweight._pack.pack import Pack
from skreweight._pack.rows import JudgedOn, Member, on_device
from skreweight._pack.suited import agreement, same_stage_two, structure, why_alone, why_module_alone
from skreweight._pack.tables import Table
from skreweight._rows.check import encode, labels_of, rows_of
from skreweight._rows.place import Labelled, cast_by_batch

#: Told of how many estimators an epoch is behind.
OnEpoch = Callable[[int], None]


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
    seconds : list of float
        By estimator: what was done for it alone, and its share of what was done for several.
    """

    errors: list[BaseException | None]
    alone: dict[str, list[int]] = field(default_factory=dict)
    packs: list[int] = field(default_factory=list)
    shared: int = 0
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def timed(self, numbers: Sequence[int]) -> Iterator[None]:
        """Share the time that the block takes between estimators."""
        begin = time.perf_counter()
        yield
        share = (time.perf_counter() - begin) / max(1, len(numbers))
        for number in numbers:
            self.seconds[number] += share


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
    on_epoch: OnEpoch | None = None,
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
    on_epoch : callable (n_networks) or None, default=None
        Called at the end of each epoch of a pack, with the number of estimators whose epoch it was.
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
    on_epoch: OnEpoch | None = None,
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
    on_epoch : callable (n_networks) or None, default=None
        Called at the end of each epoch of a pack, with the number of estimators whose epoch it was.
    checkpoint : CheckpointFile or None, default=None
        Where the fits are saved, and go on from.

    Returns
    -------
    Fits
    """
    fits = Fits([None] * len(nets), seconds=[0.0] * len(nets))
    begin = partial(_groups, nets, tables, of, rows, judged, fits)
    placed = _Placed(tables)
    failed: dict[int, BaseException] = {}
    for members in begin(range(len(nets))):
        numbers = [m.number for m in members]
        reason = "no other agrees with it" if len(members) == 1 else placed.why_not(members)
        if reason is None:
            try:
                _fit_with_less_memory(members, begin, placed, fits, budget or Budget(), on_epoch, checkpoint)
            except FAILURES as error:
                if is_own_defect(error):
                    raise
                reason = f"its pack failed ({first_line(error)})"
                if not is_refusal(error):
                    failed |= dict.fromkeys(numbers, error)
        if reason is not None:
            fits.alone.setdefault(reason, []).extend(numbers)
    for number in sorted(k for numbers in fits.alone.values() for k in numbers):
        fits.errors[number] = None  # of a pack that failed half-way
        with fits.timed([number]), _noted(fits, number):
            table = tables[of[number]]
            own = None if judged is None else _labelled(nets[number], table, *judged[number])
            part = None if checkpoint is None else checkpoint.next_run()
            data = table.some(rows[number])
            train(nets[number], *data, goes_on=False, learns=True, judged=own, checkpoint=part)
        if on_epoch is not None:
            on_epoch(nets[number].warmup_epochs + nets[number].max_epochs)
    _warn_of_packs(failed, fits)
    return fits


def _warn_of_packs(failed: dict[int, BaseException], fits: Fits) -> None:
    """Warn where networks that can be trained could not be trained together."""
    trained = [number for number in failed if fits.errors[number] is None]
    if trained:
        error = failed[trained[0]]
        warnings.warn(
            f"{len(trained)} networks could not be trained together and were trained one after another, which is "
            f"slower: {first_line(error)}.",
            RuntimeWarning,
            stacklevel=3,
        )


def _fit_with_less_memory(
    members: list[Member],
    begin: Callable[[Sequence[int]], list[list[Member]]],
    placed: _Placed,
    fits: Fits,
    budget: Budget,
    on_epoch: OnEpoch | None,
    checkpoint: CheckpointFile | None,
) -> None:
    """Train members together; in packs half as large, from the begin, where memory does not suffice.

    Not where there is a checkpoint: its parts are numbered as packs are trained.
    """
    numbers, groups = [m.number for m in members], [members]
    most = budget.members(members[0].net, placed.joined(members)[1], len(members))
    while True:
        try:
            for group in groups:
                _fit_group(*placed.joined(group), fits, most, on_epoch, checkpoint)
            return
        except (MemoryError, RuntimeError) as error:
            if most == 1 or checkpoint is not None or not is_out_of_memory(error):
                raise
        # Out here the error, whose traceback holds the pack's tensors, is gone.
        most = (most + 1) // 2
        warnings.warn(
            f"A pack ran out of memory: {len(numbers)} networks are trained anew, at most {most} at once.",
            RuntimeWarning,
            stacklevel=4,
        )
        groups = begin(numbers)


def _groups(
    nets: Sequence[ReweightedClassifier],
    tables: Sequence[Table],
    of: Sequence[int],
    rows: Sequence[NDArray[np.int64] | None],
    judged: Sequence[JudgedOn] | None,
    fits: Fits,
    numbers: Sequence[int],
) -> list[list[Member]]:
    """Begin every one of these fits that can be part of a pack, and put those together that agree."""
    groups: dict[Any, list[Member]] = {}
    some: tuple[Any, tuple[Any, ...], Known] | None = None
    for number in numbers:
        net, table, own = nets[number], of[number], rows[number]
        fits.errors[number] = None
        reason = why_alone(net, tables[table].X)
        if reason is None:
            with fits.timed([number]), _noted(fits, number):
                if some is None or some[0] != (table, id(own)):
                    some = (table, id(own)), tables[table].some(own), Known()
                given = begun(net, *some[1], known=some[2])
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
        lookup = has_lookup(net.module_) and structure(net)
        key = table, str(net.device), net._floating_dtype(), net.module is None, lookup
        if key not in self._features:
            x = rows_for(net, self._tables[table].X)
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
    own = net.module is not None
    features, _ = rows_of(
        _safe_indexing(table.X, rows), None, owner=type(net).__name__, allow_nd=own, integers=own
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


def _fit_group(
    members: list[Member],
    X: Tensor,
    codes: Tensor,
    fits: Fits,
    most: int,
    on_epoch: OnEpoch | None,
    checkpoint: CheckpointFile | None,
) -> None:
    """Train stage 1 once for all that agree in it, then stage 2 method by method."""
    starts: dict[Any, list[Member]] = {}
    for member in members:
        starts.setdefault(member.start, []).append(member)
    shared = list(starts.values())
    packs = []
    for first in range(0, len(shared), most):
        some = shared[first : first + most]
        with fits.timed([member.number for sharing in some for member in sharing]):
            pack = Pack([sharing[0] for sharing in some], X, codes)
            pack.train_stage_one([[m.net for m in sharing] for sharing in some], on_epoch, checkpoint)
        place = {member.number: k for k, sharing in enumerate(some) for member in sharing}
        for method in _by_stage_two([member for sharing in some for member in sharing]):
            lost = [m for m in method if pack.has_failed(place[m.number])]
            left = [m for m in method if not pack.has_failed(place[m.number])]
            parts = [left[begin : begin + most] for begin in range(0, len(left), most)]
            for part in [*parts, lost] if lost else parts:
                start = torch.tensor([place[m.number] for m in part])
                n_epochs = 0 if part is lost else part[0].net.max_epochs
                _train_stage_two(pack, part, start, n_epochs, fits, on_epoch, checkpoint)
            packs += [len(part) for part in parts]
    fits.packs += packs
    fits.shared += len(members) - len(shared)


def _train_stage_two(
    pack: Pack,
    part: list[Member],
    start: Tensor,
    n_epochs: int,
    fits: Fits,
    on_epoch: OnEpoch | None,
    checkpoint: CheckpointFile | None,
) -> None:
    """Train stage 2 of members from where those of stage 1 stand; its pack is gone before the next is made."""
    with fits.timed([member.number for member in part]):
        own = pack.repeated(part, start)
        own.train(n_epochs, on_epoch, checkpoint)
        for number, error in own.give_back().items():
            fits.errors[number] = error


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

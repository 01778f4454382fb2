"""Members of the user's kinds, packed as far as they can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import PredefinedSplit

from skreweight._classifier import ReweightedClassifier
from skreweight._ensemble.folds import IntArray, Split
from skreweight._ensemble.kinds import Kind, judging_weights
from skreweight._ensemble.progress import MembersProgress
from skreweight._ensemble.rows import Table
from skreweight._ensemble.spread import cut, spread
from skreweight._net.checkpoint import CheckpointFile
from skreweight._pack.fit import fit_together
from skreweight._pack.rows import JudgedOn
from skreweight._rows.carve import shown


def train(
    estimators: Sequence[ReweightedClassifier],
    table: Table,
    splits: Sequence[Split],
    classes: NDArray[Any],
    *,
    random_state: np.random.RandomState,
    progress: MembersProgress,
    checkpoint: CheckpointFile | None = None,
    n_jobs: int | None = None,
    max_pack_size: int | None = None,
) -> list[Kind]:
    """Train members of each kind on every split, one kind after another in one process.

    A member whose weighting learns from validation rows learns from about half of the rows it holds out, the same
    number from every class; the other half stops it and gives the out-of-fold probabilities.

    Parameters
    ----------
    estimators : sequence of ReweightedClassifier
    table : Table
        With the user's validation rows, from which weightings learn, if there are any.
    splits : sequence of Split
    classes : ndarray of shape (C,)
    random_state : RandomState
    progress : MembersProgress
    checkpoint : CheckpointFile or None, default=None
    n_jobs : int or None, default=None
    max_pack_size : int or None, default=None
        The most members that are trained at once; None: all of a kind, or of a process's part of them.

    Raises
    ------
    KeyboardInterrupt
        Before all members of the first kind are trained; later on the kinds that are trained by then are kept.
    """
    drawn = [
        _drawn(estimator, name, table, splits, classes, random_state)
        for estimator, name in zip(estimators, _names_of(estimators), strict=True)
    ]
    labels, rest = classes[table.codes], replace(table, x=None)
    parts = cut(len(splits), n_jobs, max_pack_size)
    if effective_n_jobs(n_jobs) == 1:
        answers: Iterator[Any] = (
            _fitted(table.x, rest, labels, classes, members.part(part), progress, checkpoint)
            for members in drawn
            for part in parts
        )
    else:
        jobs = [(members.part(part),) for members in drawn for part in parts]
        what = f"{len(drawn) * len(splits)} networks"
        common = (table.x, rest, labels, classes)
        answers = spread(_fitted, common, jobs, n_jobs=n_jobs, what=what, progress=progress)
    kinds: list[Kind] = []
    for members in drawn:
        try:
            kinds.append(_kind(members, [next(answers) for _ in parts], len(labels), progress))
        except KeyboardInterrupt:
            if not kinds:
                raise
            progress.interrupted()
            break
    return kinds


@dataclass(frozen=True)
class Members:
    """Members of a kind, before they are trained.

    Attributes
    ----------
    name : str
    nets : list of ReweightedClassifier
    rows : list of ndarray
        Which rows each is given.
    judged : list of (ndarray, ndarray)
        Rows that stop each, and how much they count.
    splits : list of Split
    """

    name: str
    nets: list[ReweightedClassifier]
    rows: list[IntArray]
    judged: list[JudgedOn]
    splits: list[Split]

    def part(self, part: slice) -> Members:
        """Return some of the members."""
        return Members(self.name, self.nets[part], self.rows[part], self.judged[part], self.splits[part])


def _drawn(
    estimator: ReweightedClassifier,
    name: str,
    table: Table,
    splits: Sequence[Split],
    classes: NDArray[Any],
    random_state: np.random.RandomState,
) -> Members:
    """Draw the rows and the seed of a member on every split."""
    codes, weights, labels = table.codes, table.weights, classes[table.codes]
    if estimator.validation_data is not None:
        raise ValueError(
            "validation_data of the estimator is set, but members validate on their folds: leave it None, and give "
            "X_val and y_val to fit."
        )
    if estimator.checkpoint is not None:
        raise ValueError(
            "checkpoint of the estimator is set, but its members are trained together: set the ensemble's own."
        )
    method = estimator.components[0].made(vars(estimator))
    learns = method.needs_validation and table.validation is None
    members = _of_one_size(splits, codes, random_state)
    halves = (
        _learned_from(members, codes, labels, random_state)
        if learns
        else [split.held[:0] for split in members]
    )
    seeds = random_state.randint(np.iinfo(np.int32).max, size=len(members)).tolist()
    nets, rows, judged, own = [], [], [], []
    balanced = type(method).__name__ != "NoWeighting" or estimator.class_weight is not None
    for split, half, seed in zip(members, halves, seeds, strict=True):
        net = clone(estimator).set_params(random_state=seed)
        used = np.concatenate([split.train, half])
        if learns:
            net.set_params(validation_data=PredefinedSplit(np.repeat([-1, 0], [len(split.train), len(half)])))
        left = np.setdiff1d(split.held, half)
        left = left if len(left) else split.held
        nets.append(net)
        rows.append(used)
        judged.append((left, judging_weights(codes[left], weights[left], balanced=balanced)))
        own.append(Split(split.train, left))
    return Members(name, nets, rows, judged, own)


def _fitted(
    x: Any,
    rest: Table,
    labels: NDArray[Any],
    classes: NDArray[Any],
    members: Members,
    progress: MembersProgress | None = None,
    checkpoint: CheckpointFile | None = None,
) -> tuple[list[ReweightedClassifier], dict[str, list[int]]]:
    """Train members, as many at once as can be; return them, and which were trained by themselves and why."""
    nets = members.nets
    pair: tuple[Any, Any] = (None, None)
    if rest.validation is not None:
        pair = (rest.validation[0], classes[rest.validation[1]])
    if progress is not None:
        progress.show(None, f"{len(nets)} networks, {members.name}")
    fits = fit_together(
        nets,
        x,
        labels,
        members.rows,
        sample_weight=None if (rest.weights == 1).all() else rest.weights,
        X_val=pair[0],
        y_val=pair[1],
        judged=members.judged,
        on_epoch=None if progress is None else progress.advance,
        checkpoint=checkpoint,
    )
    error = next((error for error in fits.errors if error is not None), None)
    if error is not None:
        raise error
    return nets, fits.alone


def _kind(
    members: Members,
    parts: Sequence[tuple[list[ReweightedClassifier], dict[str, list[int]]]],
    n_rows: int,
    progress: MembersProgress,
) -> Kind:
    """Put the members of a kind together, which were trained in parts."""
    nets, alone = [], Counter[str]()
    for some, reasons in parts:
        nets += some
        alone.update({reason: len(numbers) for reason, numbers in reasons.items()})
    progress.say(_about(alone, len(nets), members.name))
    example_weights = np.full((len(nets), n_rows), np.nan)
    for of_member, net, used in zip(example_weights, nets, members.rows, strict=True):
        of_member[used] = net.example_weights_
    return Kind(members.name, nets, members.splits, example_weights, None)


def _names_of(estimators: Sequence[ReweightedClassifier]) -> list[str]:
    """Return a name for each kind: its weighting, numbered where several have the same."""
    names = [type(net.components[0].made(vars(net))).__name__ for net in estimators]
    twice = Counter(names)
    return [f"{name} {names[:k].count(name)}" if twice[name] > 1 else name for k, name in enumerate(names)]


def _of_one_size(
    splits: Sequence[Split], codes: IntArray, random_state: np.random.RandomState
) -> list[Split]:
    """Leave out of the larger members some rows of their most frequent class: members of one size are one pack."""
    size = min(len(split.train) for split in splits)
    found = []
    for split in splits:
        frequent = np.flatnonzero(codes[split.train] == np.bincount(codes[split.train]).argmax())
        out = random_state.choice(frequent, len(split.train) - size, replace=False)
        found.append(Split(np.delete(split.train, out), split.held))
    return found


def _learned_from(
    splits: Sequence[Split], codes: IntArray, labels: NDArray[Any], random_state: np.random.RandomState
) -> list[IntArray]:
    """Draw the rows that each member's weighting learns from: as many of every class, half of the rarest's."""
    n_classes = int(codes.max()) + 1
    counts = np.array([np.bincount(codes[split.held], minlength=n_classes) for split in splits])
    if (counts == 0).any():
        rarest = int(counts.sum(axis=0).argmin())
        raise ValueError(
            "Every fold needs a row of every class for the weighting to learn from, "
            f"class {shown(labels[codes == rarest][0])} has {counts[:, rarest].sum()} for {len(splits)} members: "
            "choose fewer folds, or give X_val and y_val."
        )
    n_each = max(1, int(counts.min()) // 2)
    return [
        np.sort(
            np.concatenate(
                [
                    random_state.choice(split.held[codes[split.held] == code], n_each, replace=False)
                    for code in range(n_classes)
                ]
            )
        )
        for split in splits
    ]


def _about(alone: Mapping[str, int], n_members: int, name: str) -> str:
    """Say how many members were trained one after another, and why."""
    reasons = "; ".join(f"{number} because {reason}" for reason, number in alone.items())
    n_alone = sum(alone.values())
    return f"{name}: {n_alone} of {n_members} networks trained one after another, {reasons}" if alone else ""

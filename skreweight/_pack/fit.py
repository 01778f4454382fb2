"""Fits of many estimators in as few passes as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from torch import Tensor
from torch.optim import Optimizer

from skreweight._classifier import ReweightedClassifier
from skreweight._composition import begun, plan_of, train
from skreweight._net.criterion import class_weight_vector
from skreweight._net.predict import class_codes
from skreweight._pack import optimizer as optimizers
from skreweight._pack.listener import MembersListener
from skreweight._pack.rows import Member, on_device, pack_rows
from skreweight._pack.suited import agreement, why_alone, why_module_alone
from skreweight._rows.check import encode, labels_of, rows_of
from skreweight._rows.place import Labelled, Rows, cast_by_batch
from skreweight._training.guard import NonFiniteError
from skreweight._training.members_guard import MembersGuard
from skreweight._training.run import Run
from skreweight._training.stage import Plan
from skreweight._training.state import TrainingState
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.weighting import Weighting


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
    judged: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]] | None = None,
    max_members: int | None = None,
    on_epoch: Callable[[], None] | None = None,
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

    Returns
    -------
    Fits
    """
    fits = Fits([None] * len(nets))
    data = (X, y, sample_weight, X_val, y_val)
    groups: dict[Any, list[Member]] = {}
    for number, (net, own) in enumerate(zip(nets, rows, strict=True)):
        reason = why_alone(net, X)
        if reason is None:
            with _noted(fits, number):
                given = begun(net, *_some(data, own))
                reason = why_module_alone(net.module_)
                if reason is None:
                    member = Member(
                        net, given, np.asarray(own), number, None if judged is None else judged[number]
                    )
                    groups.setdefault((agreement(net), member.sizes), []).append(member)
        if reason is not None:
            fits.alone.setdefault(reason, []).append(number)
    for members in list(groups.values()):
        features = _features(X, members[0])
        if len(members) == 1 or features is None:
            reason = "no other agrees with it" if features is not None else "X is cast batch by batch"
            fits.alone.setdefault(reason, []).extend(m.number for m in members)
            continue
        codes = torch.from_numpy(encode(labels_of(X, y), members[0].net.labels_)).to(features.device)
        _fit_group(members, features, codes, fits, max_members or len(members), on_epoch)
    for number in sorted(k for numbers in fits.alone.values() for k in numbers):
        with _noted(fits, number):
            X_own, y_own, weights, *pair = _some(data, rows[number])
            own_judged = None if judged is None else _labelled(nets[number], X, y, *judged[number])
            train(nets[number], X_own, y_own, weights, *pair, goes_on=False, learns=True, judged=own_judged)
    return fits


def _some(data: tuple[Any, ...], rows: NDArray[np.int64]) -> tuple[Any, ...]:
    X, y, sample_weight, X_val, y_val = data
    weights = None if sample_weight is None else _safe_indexing(sample_weight, rows)
    return _safe_indexing(X, rows), _safe_indexing(y, rows), weights, X_val, y_val


def _labelled(
    net: ReweightedClassifier, X: Any, y: Any, rows: NDArray[np.int64], weights: NDArray[np.float64]
) -> Labelled:
    features, _ = rows_of(
        _safe_indexing(X, rows), None, owner=type(net).__name__, allow_nd=net.module is not None
    )
    labels = labels_of(X, y)
    return Labelled(features, encode(labels[rows], np.unique(labels)), weights)


def _features(X: Any, member: Member) -> Tensor | None:
    """All rows as one tensor on the device; None where they are too many to be cast whole."""
    features, _ = rows_of(X, None, owner=type(member.net).__name__, allow_nd=member.net.module is not None)
    assert isinstance(features, Tensor)
    return None if cast_by_batch(features, member.net._floating_dtype()) else on_device(features, member.net)


@contextmanager
def _noted(fits: Fits, number: int) -> Iterator[None]:
    """Keep what goes wrong with one estimator from the others."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        fits.errors[number] = error


def _fit_group(
    members: list[Member],
    X: Tensor,
    codes: Tensor,
    fits: Fits,
    max_members: int,
    on_epoch: Callable[[], None] | None,
) -> None:
    """Train stage 1 once for all that agree in it, then stage 2 method by method."""
    starts: dict[Any, list[Member]] = {}
    for member in members:
        starts.setdefault(member.start, []).append(member)
    shared = list(starts.values())
    fits.shared += len(members) - len(shared)
    for first in range(0, len(shared), max_members):
        some = shared[first : first + max_members]
        pack = Pack([sharing[0] for sharing in some], X, codes)
        pack.train_stage_one([[m.net for m in sharing] for sharing in some], on_epoch)
        place = {member.number: k for k, sharing in enumerate(some) for member in sharing}
        for method in _by_weighting([member for sharing in some for member in sharing]):
            lost = [m for m in method if pack.has_failed(place[m.number])]
            left = [m for m in method if not pack.has_failed(place[m.number])]
            parts = [left[begin : begin + max_members] for begin in range(0, len(left), max_members)]
            for part in [*parts, lost] if lost else parts:
                own = pack.repeated(part, torch.tensor([place[m.number] for m in part]))
                own.train(0 if part is lost else part[0].net.max_epochs, on_epoch)
                own.give_back(fits)
            fits.packs += [len(part) for part in parts]


def _by_weighting(members: list[Member]) -> list[list[Member]]:
    """Members whose weightings can be stacked, together."""
    groups: list[list[Member]] = []
    for member in members:
        for group in groups:
            if _stackable(group[0].net.weighting_, member.net.weighting_):
                group.append(member)
                break
        else:
            groups.append([member])
    return groups


def _stackable(first: Weighting, second: Weighting) -> bool:
    if type(first) is not type(second):
        return False
    try:
        type(first).stacked([first, second], torch.zeros(()))
    except ValueError:
        return False
    return True


class Pack:
    """Members of one model, with one optimiser.

    Parameters
    ----------
    members : sequence of K Member
    X, codes : torch.Tensor
        All rows, on the device.
    """

    def __init__(self, members: Sequence[Member], X: Tensor, codes: Tensor) -> None:
        self.members = list(members)
        self.X, self.codes = X, codes
        nets = [member.net for member in members]
        self.model = Model(*[net.module_ for net in nets], stacked=True)
        self.optimizer = self._new_optimizer()
        self.rows: Rows = pack_rows(members, X, codes)
        self.state = self._new_state()
        self.failed: Tensor | None = None

    @property
    def _first(self) -> ReweightedClassifier:
        return self.members[0].net

    def _new_optimizer(self) -> Optimizer:
        return optimizers.packed(self._first.optimizer_, self._first.module_, self.model)

    def _new_state(self) -> TrainingState:
        progress = [member.net.progress_ for member in self.members]
        state = TrainingState(progress[0].seed, members=[p.seed for p in progress])
        # The modules were made with the first draws of each member's generator: training draws what follows.
        state.members_random_state = [p.random_state["cpu"] for p in progress]
        return state

    def _plan(self, weighting: Weighting, *, warmup_only: bool = False) -> Plan:
        nets = [member.net for member in self.members]
        criteria = [net.criterion_ for net in nets]
        plain = loss = ExampleLoss(criteria)
        if self._first.class_weight is not None:
            scales = [class_weight_vector(n.class_weight, n.class_counts_, n.labels_) for n in nets]
            loss = ExampleLoss(criteria, torch.stack(scales).to(self.X.device, self.rows.dtype))
        plan = plan_of(self._first, self.model, self.optimizer, weighting, plain, loss)
        stages = plan.stages[:1] if warmup_only else plan.stages
        return Plan(**{**vars(plan), "stages": stages, "codes_of": class_codes})

    def train_stage_one(
        self, sharing: Sequence[Sequence[ReweightedClassifier]], on_epoch: Callable[[], None] | None
    ) -> None:
        """Train stage 1, which may serve more estimators than there are members."""
        if self._first.warmup_epochs:
            self._run(
                lambda: self._plan(self._first.weighting_, warmup_only=True),
                sharing,
                self._first.warmup_epochs,
                on_epoch,
            )

    def repeated(self, members: Sequence[Member], start: Tensor) -> Pack:
        """Return a pack of members of which the j-th goes on from this one's member ``start[j]``."""
        other = Pack.__new__(Pack)
        other.members, other.X, other.codes = list(members), self.X, self.codes
        other.model = self.model.repeat(start, [member.net.module_ for member in members])
        other.optimizer = optimizers.repeated(self.optimizer, self.model, other.model, start)
        other.rows = pack_rows(members, self.X, self.codes)
        other.state = other._new_state()
        other.state.members_random_state = [self.state.members_random_state[int(k)] for k in start]
        other.state.random_state = dict(self.state.random_state)
        other.state.epochs_done = self.state.epochs_done
        other.failed = None if self.failed is None else self.failed[start]
        return other

    def has_failed(self, k: int) -> bool:
        """Whether member k has met a loss or gradient that is not finite."""
        return self.failed is not None and bool(self.failed[k].any())

    def train(self, n_epochs: int, on_epoch: Callable[[], None] | None = None) -> None:
        """Train epochs of stage 2."""
        own = [member.net.weighting_ for member in self.members]
        weighting = type(own[0]).stacked(own, self.model.parameters[0].detach())
        sharing = [[member.net] for member in self.members]
        self._run(lambda: self._plan(weighting), sharing, n_epochs, on_epoch)
        self.weighting = weighting

    def _run(
        self,
        plan: Callable[[], Plan],
        sharing: Sequence[Sequence[ReweightedClassifier]],
        n_epochs: int,
        on_epoch: Callable[[], None] | None,
    ) -> None:
        self.run = Run(plan, self.rows, self.state, MembersListener(sharing, self._renew_optimizer, on_epoch))
        done = self.state.epochs_done
        with suppress(NonFiniteError):  # every member has failed, which each is told by itself
            self.run.train(n_epochs)
        guard = self.run.guard
        assert isinstance(guard, MembersGuard)
        failed = torch.where(guard.failed > 0, guard.failed + guard.failed.new_tensor([done, 0]), 0)
        self.failed = failed if self.failed is None else torch.where(self.failed > 0, self.failed, failed)

    def _renew_optimizer(self) -> None:
        self.optimizer = self._new_optimizer()

    def give_back(self, fits: Fits) -> None:
        """Make each member's estimator what its own fit would have made of it."""
        nets = [member.net for member in self.members]
        optimizers.give_back(self.optimizer, self.model, [(net.module_, net.optimizer_) for net in nets])
        weights = self.run.example_weights()
        largest = float(self.X.abs().max())
        for k, member in enumerate(self.members):
            net, rows = member.net, torch.from_numpy(member.rows).to(self.X.device)
            self.model.member(k)
            net.module_.eval()
            net.weighting_.load_state_dict(self.weighting.state_of_member(k, rows))
            net.example_weights_ = weights[k][rows].cpu().numpy()
            self.state.give_member(k, net.progress_)
            epoch, batch = (0, 0) if self.failed is None else self.failed[k].tolist()
            if batch:
                error = NonFiniteError(batch)
                error.explain(epoch, largest, net.lr)
                fits.errors[member.number] = error

"""Members of one model, trained by one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from skreweight._classifier import ReweightedClassifier
from skreweight._composition import plan_of
from skreweight._net.checkpoint import CheckpointFile
from skreweight._net.criterion import class_weight_vector
from skreweight._net.outcome import ends_finite, warn_of_outcome
from skreweight._net.predict import class_codes
from skreweight._pack import optimizer as optimizers
from skreweight._pack.listener import MembersListener
from skreweight._pack.rates import may_differ, set_rates
from skreweight._pack.resuming import Sharing, go_on_from, state_of
from skreweight._pack.rows import Member, pack_rows
from skreweight._rows.place import Rows
from skreweight._training.guard import NonFiniteError
from skreweight._training.members_guard import MembersGuard
from skreweight._training.run import Run
from skreweight._training.stage import Plan
from skreweight._training.state import TrainingState
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.weighting import Weighting


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
        optimizer = optimizers.packed(self._first.optimizer_, self._first.module_, self.model)
        self._set_rates(optimizer)
        return optimizer

    def _set_rates(self, optimizer: Optimizer) -> None:
        if may_differ(self._first):
            set_rates(optimizer, self.model, [member.net for member in self.members])

    def _new_state(self) -> TrainingState:
        progress = [member.net.progress_ for member in self.members]
        state = TrainingState(progress[0].seed, members=[p.seed for p in progress])
        # The modules were made with the first draws of each member's generator: training draws what follows.
        state.members_random_state = [p.random_state["cpu"] for p in progress]
        return state

    @cached_property
    def _losses(self) -> tuple[ExampleLoss, ExampleLoss]:
        """Without and with class weights; no callback replaces a criterion of a pack."""
        nets = [member.net for member in self.members]
        criteria = [net.criterion_ for net in nets]
        plain = ExampleLoss(criteria)
        if self._first.class_weight is None:
            return plain, plain
        scales = [class_weight_vector(n.class_weight, n.class_counts_, n.labels_) for n in nets]
        return plain, ExampleLoss(criteria, torch.stack(scales).to(self.X.device, self.rows.dtype))

    def _plan(self, weighting: Weighting, *, warmup_only: bool = False) -> Plan:
        plain, loss = self._losses
        if warmup_only and self._first.defer_class_weight:
            loss = plain
        plan = plan_of(self._first, self.model, self.optimizer, weighting, plain, loss)
        stages = plan.stages[:1] if warmup_only else plan.stages
        return Plan(**{**vars(plan), "stages": stages, "codes_of": class_codes})

    def train_stage_one(
        self,
        sharing: Sharing,
        on_epoch: Callable[[int], None] | None,
        checkpoint: CheckpointFile | None = None,
    ) -> None:
        """Train stage 1, which may serve more estimators than there are members."""
        if self._first.warmup_epochs:
            self._run(
                lambda: self._plan(self._first.weighting_, warmup_only=True),
                sharing,
                self._first.warmup_epochs,
                on_epoch,
                checkpoint,
            )

    def repeated(self, members: Sequence[Member], start: Tensor) -> Pack:
        """Return a pack of members of which the j-th goes on from this one's member ``start[j]``."""
        other = Pack.__new__(Pack)
        other.members, other.X, other.codes = list(members), self.X, self.codes
        other.model = self.model.repeat(start, [member.net.module_ for member in members])
        other.optimizer = optimizers.repeated(self.optimizer, self.model, other.model, start)
        other._set_rates(other.optimizer)
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

    def train(
        self,
        n_epochs: int,
        on_epoch: Callable[[int], None] | None = None,
        checkpoint: CheckpointFile | None = None,
    ) -> None:
        """Train epochs of stage 2."""
        own = [member.net.weighting_ for member in self.members]
        weighting = type(own[0]).stacked(own, self.model.parameters[0].detach())
        self.state.weighting = weighting
        sharing = [[member.net] for member in self.members]
        self._run(lambda: self._plan(weighting), sharing, n_epochs, on_epoch, checkpoint)
        self.weighting = weighting

    def _run(
        self,
        plan: Callable[[], Plan],
        sharing: Sharing,
        n_epochs: int,
        on_epoch: Callable[[int], None] | None,
        checkpoint: CheckpointFile | None,
    ) -> None:
        listener = MembersListener(sharing, self._renew_optimizer, on_epoch)
        part = None if checkpoint is None else checkpoint.next_run()
        saved = None if part is None else part.saved
        done = self.state.epochs_done
        if saved is not None:
            go_on_from(saved, self.model, self.optimizer, self.state, sharing)
        self.run = Run(plan, self.rows, self.state, listener)
        if part is not None:
            listener.save = lambda last: part.after_epoch(lambda: self._saved(sharing), last=last)
        if saved is not None:
            self._guard.load_state_dict(saved["guard"])
        with suppress(NonFiniteError):  # every member has failed, which each is told by itself
            self.run.train(done + n_epochs - self.state.epochs_done)
        own = self._guard.failed
        failed = torch.where(own > 0, own + own.new_tensor([done, 0]), 0)
        self.failed = failed if self.failed is None else torch.where(self.failed > 0, self.failed, failed)

    @property
    def _guard(self) -> MembersGuard:
        guard = self.run.guard
        assert isinstance(guard, MembersGuard)
        return guard

    def _saved(self, sharing: Sharing) -> dict[str, Any]:
        return state_of(self.model, self.optimizer, self.state, self._guard, sharing)

    def _renew_optimizer(self) -> None:
        self.optimizer = self._new_optimizer()

    def give_back(self) -> dict[int, NonFiniteError]:
        """Make each member's estimator what its own fit would have made of it.

        Returns
        -------
        dict of int to NonFiniteError
            By number of the member, for those that failed.
        """
        nets = [member.net for member in self.members]
        optimizers.give_back(self.optimizer, self.model, [(net.module_, net.optimizer_) for net in nets])
        weights = self.run.example_weights()
        largest = float(self.X.abs().max())
        errors = {}
        for k, member in enumerate(self.members):
            net, rows = member.net, torch.from_numpy(member.rows).to(self.X.device)
            self.model.member(k)
            net.module_.eval()
            net.weighting_.load_state_dict(self.weighting.state_of_member(k, rows))
            net.example_weights_ = weights[k][rows].cpu().numpy()
            self.state.give_member(k, net.progress_)
            epoch, batch = (0, 0) if self.failed is None else self.failed[k].tolist()
            some = partial(self._rows_of, k)
            if not batch and ends_finite(net, some, has_validation=self.rows.validation is not None):
                warn_of_outcome(net, some)
                continue
            error = NonFiniteError(batch or None)
            error.explain(epoch if batch else len(net.history), largest, net.lr)
            errors[member.number] = error
        return errors

    def _rows_of(self, k: int, n_most: int) -> Tensor:
        """Return the features of the first training rows of member k."""
        rows = torch.arange(len(self.X)) if self.rows.train is None else self.rows.train[k]
        return self.X[rows[:n_most].to(self.X.device)]

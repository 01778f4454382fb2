"""The epochs that are left, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from skreweight._rows.batches import Batch
from skreweight._training.diagnostics import Figure, figure
from skreweight._training.guard import Guard
from skreweight._training.keep_best import Judgement
from skreweight._training.stage import Stage
from skreweight._training.state import TrainingState
from skreweight._training.step import Outcome
from skreweight.core.exchange import LOCAL, Exchange
from skreweight.core.random_state import drawing


class Listener(Protocol):
    """Who is told of a training's course.

    Attributes
    ----------
    wants_batches, wants_validation, wants_gradients : bool
        Whether it listens to each batch of training rows, to the judgement on the validation rows, to the
        gradients of each step: all of these may cost a host read.
    """

    wants_batches: bool
    wants_validation: bool
    wants_gradients: bool

    def stage_begins(self, stage: Stage) -> None:
        """A stage other than the first begins; where it wants a fresh optimiser, now is the time to make it."""
        ...

    def epoch_begins(self, stage: Stage) -> None:
        """An epoch begins; what is changed here holds for it."""
        ...

    def batch_begins(self, batch: Batch) -> None:
        """A step on the batch is about to be taken."""
        ...

    def gradients(self, batch: Batch) -> None:
        """The batch's gradients stand in the parameters."""
        ...

    def batch_ends(self, batch: Batch, outcome: Outcome) -> None:
        """A step was taken."""
        ...

    def judged(self, judgement: Judgement) -> None:
        """The network was tried on the validation rows."""
        ...

    def figures(self, values: Mapping[str, Figure]) -> None:
        """What the epoch has come to, in several calls: for K members a list of K."""
        ...

    def epoch_ends(self) -> bool:
        """An epoch is behind; return whether its stage is to end."""
        ...

    def epoch_counted(self, *, last: bool) -> None:
        """The state has counted the epoch; `last` says that no other one follows."""
        ...

    def interrupted(self) -> None:
        """Ctrl-C came: the epoch, if one was begun, is not finished."""
        ...


@dataclass(frozen=True)
class Epoch:
    """What one epoch is made of.

    Attributes
    ----------
    stage : Stage
    stage_ends : int
        How many epochs are done once the stage is.
    is_last : bool
        Whether no other stage follows.
    step : callable (Batch) -> Outcome
    batches : iterable of Batch
    device : torch.device
    guard : Guard
    weights : torch.Tensor of shape (*M, N), float64, or None
        Where the weight of each row is written, such that 1 is what a row weighs in a plain mean.
    judge : callable () -> Judgement, or None without validation rows
    keep_if_best : callable (Judgement)
    diagnose : callable () -> figures, or None where nobody asked for them
    set_learning_rate : callable (share of the stage that is done), or None where they are left as they are
    done_before : float
        The share of the stage that is done when the epoch begins.
    exchange : Exchange
        Sums over the processes that share a batch; one process by default.
    merge : callable () or None
        Brings together what each process has written for rows of its own.
    draws_apart : bool
        Whether nothing in a step draws from torch's global generators: steps need not wait for other threads.
    """

    stage: Stage
    stage_ends: int
    is_last: bool
    step: Callable[[Batch], Outcome]
    batches: Iterable[Batch]
    device: torch.device
    guard: Guard
    weights: Tensor | None
    judge: Callable[[], Judgement] | None
    keep_if_best: Callable[[Judgement], None]
    diagnose: Callable[[], Mapping[str, Figure]] | None
    set_learning_rate: Callable[[float], None] | None = None
    done_before: float = 0.0
    exchange: Exchange = LOCAL
    merge: Callable[[], None] | None = None
    draws_apart: bool = False

    def share_done(self, n_batches: int) -> float:
        """Return the share of the stage that is done in the middle of the step after so many of the epoch's."""
        length: int = len(self.batches)  # type: ignore[arg-type]
        return self.done_before + (n_batches + 0.5) / (length * self.stage.n_epochs)


class _Tally:
    """The rows' weights and the loss of an epoch, counted some steps at a time.

    Between the steps of a small network a handful of tiny operations takes as long as one of its layers: their code
    and data come from afar each time. In one go they take a third of that.
    """

    _STEPS = 32

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._pending: list[tuple[Tensor, Tensor, int, Tensor | None]] = []
        self._total = torch.zeros(1, device=epoch.device)
        self._n_rows = 0

    def add(self, rows: Tensor, outcome: Outcome) -> None:
        """Take over what a step on these rows, (*M, B), came to."""
        size = self._epoch.exchange.size(rows.shape[-1])
        self._pending.append((rows, outcome.weights, size, outcome.loss if outcome.taken else None))
        if len(self._pending) == self._STEPS:
            self.count()

    def count(self) -> None:
        """Write the weights of the rows so far, and add up their losses, in the order of the steps."""
        written = self._epoch.weights
        for rows, weights, size, loss in self._pending:
            if written is not None:
                written.scatter_(-1, rows, (weights * size).to(written.dtype))
            if loss is not None:
                self._total = torch.add(self._total, loss, alpha=size)
                self._n_rows += size
        self._pending.clear()

    def mean_loss(self) -> Tensor:
        """Return the mean of the training loss over the rows of steps that were taken, (*M, 1)."""
        return self._total / max(1, self._n_rows)


class Loop:
    """Trains epoch by epoch, from wherever training has come to.

    Parameters
    ----------
    state : TrainingState
    listener : Listener
    present_stage : callable () -> (Stage, bool)
        The stage of the next epoch, and whether it begins there after another one.
    next_epoch : callable () -> Epoch
        Asked once the listener has heard that an epoch begins.
    """

    def __init__(
        self,
        state: TrainingState,
        listener: Listener,
        present_stage: Callable[[], tuple[Stage, bool]],
        next_epoch: Callable[[], Epoch],
    ) -> None:
        self._state, self._listener = state, listener
        self._present_stage, self._next_epoch = present_stage, next_epoch

    def train(self, n_epochs: int) -> None:
        """Train for as many epochs, or until the listener ends the last stage."""
        state, listener = self._state, self._listener
        last = state.epochs_done + n_epochs
        while state.epochs_done < last:
            with drawing():  # callbacks, a layer that is made anew
                stage, begins = self._present_stage()
                if begins:
                    listener.stage_begins(stage)
                listener.epoch_begins(stage)
                epoch = self._next_epoch()
            self._run_epoch(epoch)
            state.epochs_done += 1
            with drawing():
                stops = listener.epoch_ends()
            state.stopped = stops and epoch.is_last
            if stops and not epoch.is_last:
                state.epochs_done = epoch.stage_ends
            listener.epoch_counted(last=state.stopped or state.epochs_done >= last)
            if state.stopped:
                return

    def _run_epoch(self, epoch: Epoch) -> None:
        tally = _Tally(epoch)
        n_batches = 0
        batches = iter(epoch.batches)
        try:
            while True:
                with nullcontext() if epoch.draws_apart else drawing():
                    batch = next(batches, None)
                    if batch is None:
                        break
                    self._step(epoch, batch, n_batches, tally)
                n_batches += 1
        finally:
            tally.count()
        if n_batches == 0:
            raise ValueError(
                "The epoch had no batch: an empty batch_sampler, or drop_last=True with fewer training rows than "
                "batch_size."
            )
        if epoch.merge is not None:
            epoch.merge()
        with drawing():
            self._finish_epoch(epoch, tally.mean_loss(), n_batches)

    def _step(self, epoch: Epoch, batch: Batch, n_batches: int, tally: _Tally) -> None:
        """Take one step, and tell whoever listens."""
        listener = self._listener
        if listener.wants_batches:
            listener.batch_begins(batch)
        if epoch.set_learning_rate is not None:
            epoch.set_learning_rate(epoch.share_done(n_batches))
        outcome = epoch.step(batch)
        tally.add(batch.rows, outcome)
        if listener.wants_batches:
            tally.count()  # who listens may read or save the rows' weights
            listener.batch_ends(batch, outcome)
        if epoch.judge is not None and epoch.stage.keep_best == "step":
            epoch.keep_if_best(epoch.judge())

    def _finish_epoch(self, epoch: Epoch, mean_loss: Tensor, n_batches: int) -> None:
        """The one place where an epoch's figures come to the host."""
        listener = self._listener
        listener.figures(
            {"stage": epoch.stage.number, "train_batch_count": n_batches, "train_loss": figure(mean_loss)}
        )
        skipped = epoch.guard.finish_epoch()
        if epoch.guard.policy == "skip":
            listener.figures({"n_skipped": skipped})
        if epoch.judge is not None:
            judgement = epoch.judge()
            if listener.wants_validation:
                listener.judged(judgement)
            listener.figures({"valid_loss": figure(judgement.loss), "valid_acc": figure(judgement.accuracy)})
            if epoch.stage.keep_best == "epoch":
                epoch.keep_if_best(judgement)
        if epoch.diagnose is not None:
            listener.figures(epoch.diagnose())

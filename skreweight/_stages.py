"""The two stages of a fit, epoch by epoch, inside skorch's lifecycle."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from skorch.utils import TeeGenerator
from torch import Tensor

from skreweight._diagnostics import summarised
from skreweight._last_weights import LastWeights
from skreweight._rows import FitRows
from skreweight._training import PLAIN, Trainer
from skreweight.batches import Batch, TensorBatches
from skreweight.core.example_loss import ExampleLoss
from skreweight.weighting import Weighting

if TYPE_CHECKING:
    from skreweight._classifier import ReweightedClassifier


class Stages:
    """Runs the epochs that are left of both stages.

    Parameters
    ----------
    net : ReweightedClassifier
        Initialised.
    rows : FitRows
    trainer : Trainer
    losses : tuple of ExampleLoss
        Per-example losses of stage 1 and of stage 2 (deferred class weights set in with the latter).
    plain_loss : ExampleLoss
        Without class weights, for the validation rows.
    """

    def __init__(
        self,
        net: ReweightedClassifier,
        rows: FitRows,
        trainer: Trainer,
        losses: tuple[ExampleLoss, ExampleLoss],
        plain_loss: ExampleLoss,
    ) -> None:
        self.net, self.rows, self.trainer = net, rows, trainer
        self.losses, self.plain_loss = losses, plain_loss
        self._last_weights: LastWeights | None = None
        self._has_warned = False
        callbacks = [callback for _, callback in net.callbacks_]
        self._hears_training = any(_hears_batches(c, training=True) for c in callbacks)
        self._hears_validation = any(_hears_batches(c, training=False) for c in callbacks)
        self._hears_gradients = any(_overrides(c, "on_grad_computed") for c in callbacks)
        if self._hears_gradients:
            trainer.on_gradients = self._tell_gradients

    def run(self, n_epochs: int, on_epoch: dict[str, Any]) -> None:
        """Train for as many epochs, from wherever training has come to."""
        net, progress = self.net, self.net.progress_
        options = net.batch_options()
        plain_batches = self.rows.training_batches(net.iterator_train, options)
        n_warmup = net.warmup_epochs
        last = progress.epochs_done + n_epochs
        while progress.epochs_done < last:
            in_stage_two = progress.epochs_done >= n_warmup
            if progress.epochs_done == n_warmup and n_warmup > 0:
                self._begin_stage_two()
            weighting = net.weighting_ if in_stage_two else PLAIN
            on_validation = weighting.stage_two_rows == "validation"
            batches = self.rows.validation_batches(options) if on_validation else plain_batches
            net.notify("on_epoch_begin", **on_epoch)
            self._run_epoch(batches, weighting, in_stage_two, own_rows=not on_validation)
            progress.epochs_done += 1
            if self._end_epoch(on_epoch):
                if in_stage_two:
                    return
                progress.epochs_done = n_warmup

    @property
    def last_weights(self) -> Tensor | None:
        """The last weight of each row of X in stage 2, if they were noted."""
        return None if self._last_weights is None else self._last_weights.values()

    def _run_epoch(
        self, batches: Iterable[Batch], weighting: Weighting, in_stage_two: bool, own_rows: bool
    ) -> None:
        net, trainer = self.net, self.trainer
        # The validation rows are balanced as they are: class weights would undo that.
        trainer.loss = self.losses[in_stage_two] if own_rows else self.plain_loss
        trainer.multiplicity = self.rows.multiplicity if own_rows else None
        trainer.diagnostics = {} if net.diagnostics and in_stage_two else None
        best_by_step = in_stage_two and net.keep_best == "step" and self.rows.x_val is not None
        total = torch.zeros(1, device=self.rows.device)
        n_batches = 0
        note_weights = (
            in_stage_two and own_rows and weighting.changes_weights and weighting.stored_weights is None
        )
        if note_weights and self._last_weights is None:
            self._last_weights = LastWeights(len(self.rows.targets), self.rows.device)
        may_come_again = not (isinstance(batches, TensorBatches) and batches.batch_sampler is None)
        take = lambda batch: trainer.step(batch, weighting)
        for batch in batches:
            pair = (batch.x, batch.targets)
            if self._hears_training:
                net.notify("on_batch_begin", batch=pair, training=True)
            loss, weights, outputs = take(batch)
            skips = trainer.guard.policy == "skip"  # a skipped batch is no part of the mean
            total = total + (torch.where(loss.isfinite(), loss, 0.0) if skips else loss)
            n_batches += 1
            if note_weights and self._last_weights is not None:
                self._last_weights.note(batch.rows, weights, may_come_again=may_come_again)
            if self._hears_training:
                self._tell_batch(pair, loss, outputs, "train")
            if best_by_step:
                accuracy, val_loss, _ = self._evaluate()
                net.progress_.best.update(net.module_, accuracy, val_loss)
        if n_batches == 0:
            raise ValueError(
                "The epoch had no batch: an empty batch_sampler, or drop_last=True with fewer training rows than "
                "batch_size."
            )
        if self._last_weights is not None:
            self._last_weights.write()
        n_taken = max(1, n_batches - trainer.guard.n_skipped)
        self._finish_epoch(total / n_taken, n_batches, in_stage_two)

    def _finish_epoch(self, mean_loss: Tensor, n_batches: int, in_stage_two: bool) -> None:
        """The one place where an epoch's figures come to the host."""
        net, history = self.net, self.net.history
        if not history[-1]["batches"]:
            history.new_batch()  # skorch's Checkpoint looks for the last batch, whatever stands in it
        history.record("stage", 2 if in_stage_two else 1)
        history.record("train_batch_count", n_batches)
        self._record_best("train_loss", float(mean_loss), lower_is_better=True)
        self.trainer.guard.finish_epoch()
        if net.on_nonfinite == "skip":
            self._record_skipped()
        if self.rows.x_val is not None:
            accuracy, loss, outputs = self._evaluate()
            if self._hears_validation:
                pair = (self.rows.x_val, self.rows.val_targets)
                net.notify("on_batch_begin", batch=pair, training=False)
                self._tell_batch(pair, loss, outputs, "valid")
            self._record_best("valid_loss", float(loss), lower_is_better=True)
            self._record_best("valid_acc", float(accuracy), lower_is_better=False)
            if in_stage_two and net.keep_best == "epoch":
                net.progress_.best.update(net.module_, accuracy, loss)
        if self.trainer.diagnostics is not None:
            for name, value in summarised(
                self.trainer.diagnostics, net, self.rows, self.last_weights
            ).items():
                history.record(name, value)

    def _record_skipped(self) -> None:
        history, n_skipped = self.net.history, self.trainer.guard.n_skipped
        history.record("n_skipped", n_skipped)
        self.trainer.guard.n_skipped = 0
        if n_skipped and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"Epoch {len(history)}: skipped {n_skipped} batch(es) with a non-finite loss or gradient "
                "(on_nonfinite='skip'). This is said once; history_[:, 'n_skipped'] counts them.",
                stacklevel=2,
            )

    @torch.no_grad()
    def _evaluate(self) -> tuple[Tensor, Tensor, Tensor]:
        """Accuracy, mean loss and outputs on the validation rows, in evaluation mode."""
        model = self.trainer.validation.model
        outputs = model(self.rows.x_val)
        targets = self.rows.val_targets
        assert targets is not None
        loss = self.plain_loss(outputs, targets).mean()
        return (self.net.codes_of(outputs) == targets).to(loss.dtype).mean(), loss, outputs

    def _record_best(self, name: str, value: float, *, lower_is_better: bool) -> None:
        history = self.net.history
        past = [row[name] for row in history[:-1] if name in row]
        sign = 1 if lower_is_better else -1
        history.record(name, value)
        history.record(f"{name}_best", all(sign * value < sign * old for old in past))

    def _tell_batch(self, pair: tuple[Any, Any], loss: Tensor, outputs: Tensor, prefix: str) -> None:
        history = self.net.history
        history.record_batch(f"{prefix}_loss", loss.item())
        history.record_batch(f"{prefix}_batch_size", len(pair[1]))
        self.net.notify("on_batch_end", batch=pair, training=prefix == "train", loss=loss, y_pred=outputs)

    def _tell_gradients(self, batch: Batch) -> None:
        named = TeeGenerator(self.net.get_all_learnable_params())
        self.net.notify(
            "on_grad_computed", named_parameters=named, batch=(batch.x, batch.targets), training=True
        )

    def _begin_stage_two(self) -> None:
        net = self.net
        for _, callback in net.callbacks_:
            if isinstance(callback, EarlyStopping) and net.history:
                callback.on_train_end(net)  # restores the best parameters, if it was asked to
                callback.on_train_begin(net)
        if net.restart_stage_two:
            net.restart_optimizer()
            self.trainer.guard.release()
            from skreweight._guard import FiniteGuard
            self.trainer.guard = FiniteGuard(net.module_, net.optimizer_, self.trainer.guard.policy)
            self.trainer.optimizer = net.optimizer_

    def _end_epoch(self, on_epoch: dict[str, Any]) -> bool:
        """Tell every callback; True where skorch's EarlyStopping, not the user, asked for the stage to end."""
        net, stopped = self.net, False
        net.on_epoch_end(net, **on_epoch)
        for _, callback in net.callbacks_:
            try:
                callback.on_epoch_end(net, **on_epoch)
            except KeyboardInterrupt:
                if not isinstance(callback, EarlyStopping) or callback.misses_ < callback.patience:
                    raise
                stopped = True
        return stopped


def _overrides(callback: Callback, method: str) -> bool:
    return getattr(type(callback), method) is not getattr(Callback, method)


def _hears_batches(callback: Callback, *, training: bool) -> bool:
    """Whether a callback wants to hear of each batch, which costs one host read a batch."""
    if isinstance(callback, EpochScoring):
        return callback.on_train == training
    if isinstance(callback, LRScheduler) and callback.step_every != "batch":
        return False
    return _overrides(callback, "on_batch_begin") or _overrides(callback, "on_batch_end")

"""The training's listener that tells skorch's callbacks and keeps skorch's history."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    PrintLog,
    ProgressBar,
    TrainEndCheckpoint,
    logging,
)
from skorch.dataset import Dataset as SkorchDataset
from skorch.history import History
from skorch.utils import TeeGenerator
from torch import Tensor

from skreweight._net.checkpoint import RunCheckpoint
from skreweight._net.resuming import state_of
from skreweight._net.schedules import restart
from skreweight._rows.batches import Batch
from skreweight._rows.check import is_dataset
from skreweight._rows.place import Rows
from skreweight._training.diagnostics import Figure
from skreweight._training.keep_best import Judgement
from skreweight._training.stage import Stage
from skreweight._training.step import Outcome

#: Callbacks that print or write files.
WRITERS = (Checkpoint, PrintLog, ProgressBar, TrainEndCheckpoint, logging.TensorBoard, logging.WandbLogger,
           logging.NeptuneLogger, logging.SacredLogger, logging.MlflowLogger)  # fmt: skip
#: Figures of which the history says whether they are the best so far; 1: the lower the better, −1: the higher.
BEST = {"train_loss": 1, "valid_loss": 1, "valid_acc": -1}


@contextmanager
def silent_beside_the_first(net: NeuralNet, rank: int) -> Iterator[None]:
    """Context in which the first of several processes alone warns, prints, and writes files, as callbacks do it."""
    if rank == 0:
        yield
        return
    kept = net.callbacks_
    net.callbacks_ = [(name, callback) for name, callback in kept if not writes(callback)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            net.callbacks_ = kept


def writes(callback: Any) -> bool:
    """Whether a callback prints or writes files: skorch's own that do, and those with ``writes = True``."""
    return isinstance(callback, WRITERS) or bool(getattr(callback, "writes", False))


class SkorchListener:
    """Notifies a net's callbacks and writes its history.

    Parameters
    ----------
    net : NeuralNet
        Initialised; gets the attribute ``stage_``.
    rows : Rows
    checkpoint : RunCheckpoint or None, default=None
        What the net is saved to.
    """

    def __init__(self, net: NeuralNet, rows: Rows, checkpoint: RunCheckpoint | None = None) -> None:
        self._net, self._rows, self._checkpoint = net, rows, checkpoint
        self._on_epoch = _datasets(rows)
        self._optimizer = net.optimizer_
        self._has_warned = False
        callbacks = [net, *(callback for _, callback in net.callbacks_)]
        self.wants_batches = any(_hears_batches(c, training=True) for c in callbacks)
        self.wants_validation = any(_hears_batches(c, training=False) for c in callbacks)
        self.wants_gradients = any(_overrides(c, "on_grad_computed") for c in callbacks)

    def stage_begins(self, stage: Stage) -> None:
        """Begin early stopping anew; make a new optimiser, with schedules from their start, if the stage wants it."""
        net = self._net
        for _, callback in net.callbacks_:
            if isinstance(callback, EarlyStopping) and net.history:
                callback.on_train_end(net)  # restores the best parameters, if it was asked to
                callback.on_train_begin(net)
        if stage.fresh_optimizer:
            net.restart_optimizer()

    def epoch_begins(self, stage: Stage) -> None:
        """Notify of a new epoch."""
        self._net.stage_ = stage.number
        self._follow_optimizer()
        self._net.notify("on_epoch_begin", **self._on_epoch)
        self._follow_optimizer()

    def _follow_optimizer(self) -> None:
        if self._net.optimizer_ is not self._optimizer:
            self._optimizer = self._net.optimizer_
            restart(self._net.callbacks_, self._optimizer)

    def batch_begins(self, batch: Batch) -> None:
        """Notify of a batch."""
        self._net.notify("on_batch_begin", batch=(batch.x, batch.targets), training=True)

    def gradients(self, batch: Batch) -> None:
        """Notify of gradients."""
        named = TeeGenerator(self._net.get_all_learnable_params())
        pair = (batch.x, batch.targets)
        self._net.notify("on_grad_computed", named_parameters=named, batch=pair, training=True)

    def batch_ends(self, batch: Batch, outcome: Outcome) -> None:
        """Record a step and notify of it."""
        self._tell((batch.x, batch.targets), outcome.loss, outcome.outputs, "train")

    def judged(self, judgement: Judgement) -> None:
        """Record the validation rows as one batch and notify of it."""
        pair = self._rows.validation
        self._net.notify("on_batch_begin", batch=pair, training=False)
        self._tell(pair, judgement.loss, judgement.outputs, "valid")

    def _tell(self, pair: Any, loss: Tensor, outputs: Tensor, prefix: str) -> None:
        history = self._net.history
        history.record_batch(f"{prefix}_loss", loss.item())
        history.record_batch(f"{prefix}_batch_size", len(pair[1]))
        self._net.notify("on_batch_end", batch=pair, training=prefix == "train", loss=loss, y_pred=outputs)

    def figures(self, values: Mapping[str, Figure]) -> None:
        """Record figures of the epoch."""
        record(self._net.history, values)
        if values.get("n_skipped"):
            self._warn_of_skipped(values["n_skipped"])

    def _warn_of_skipped(self, n_skipped: Figure) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"Epoch {len(self._net.history)}: skipped {n_skipped} batch(es) with a non-finite loss or gradient "
                "(on_nonfinite='skip'). This is said once; history_[:, 'n_skipped'] counts them.",
                stacklevel=2,
            )

    def epoch_ends(self) -> bool:
        """Tell every callback; True where skorch's EarlyStopping, not the user, asked for the stage to end."""
        net, stopped = self._net, False
        net.on_epoch_end(net, **self._on_epoch)
        for _, callback in net.callbacks_:
            try:
                callback.on_epoch_end(net, **self._on_epoch)
            except KeyboardInterrupt:
                if not isinstance(callback, EarlyStopping) or callback.misses_ < callback.patience:
                    raise
                stopped = True
        return stopped

    def epoch_counted(self, *, last: bool) -> None:
        """Save the net, if there is a checkpoint."""
        if self._checkpoint is not None:
            self._checkpoint.after_epoch(lambda: state_of(self._net), last=last)

    def interrupted(self) -> None:
        """Take an epoch that was not finished out of the history: it begins again with the next training."""
        if self._net.history and "stage" not in self._net.history[-1]:
            del self._net.history[-1]


def record(history: History, values: Mapping[str, Figure]) -> None:
    """Write figures of the present epoch into a history, with a note where one is the best so far."""
    if not history[-1]["batches"]:
        history.new_batch()  # skorch's Checkpoint looks for the last batch, whatever stands in it
    for name, value in values.items():
        history.record(name, value)
        if name in BEST:
            past = [row[name] for row in history[:-1] if name in row]
            history.record(f"{name}_best", all(BEST[name] * value < BEST[name] * old for old in past))


def _datasets(rows: Rows) -> dict[str, Any]:
    """What skorch's callbacks are handed at the begin and end of an epoch."""
    train: Any = rows.x if is_dataset(rows.x) else SkorchDataset(rows.x, rows.targets)
    if rows.train is not None:
        train = torch.utils.data.Subset(train, rows.train.cpu().numpy())  # type: ignore[arg-type]
    valid = None if rows.validation is None else SkorchDataset(*rows.validation)
    return {"dataset_train": train, "dataset_valid": valid}


def _overrides(listener: Any, method: str) -> bool:
    """Whether a callback, or the net, does anything of its own there.

    By its class, a function set on the object, or what it stands in for.
    """
    base = NeuralNet if isinstance(listener, NeuralNet) else Callback
    return getattr(getattr(listener, method), "__func__", None) is not getattr(base, method)


def _hears_batches(callback: Any, *, training: bool) -> bool:
    """Whether a callback wants to hear of each batch, which costs one host read a batch."""
    if isinstance(callback, EpochScoring):
        return callback.on_train == training
    if isinstance(callback, LRScheduler) and callback.step_every != "batch":
        return False
    return _overrides(callback, "on_batch_begin") or _overrides(callback, "on_batch_end")

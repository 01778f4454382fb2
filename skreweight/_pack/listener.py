"""Who hears of a pack's training: the history of every member, and a progress bar where one is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skreweight._classifier import ReweightedClassifier
from skreweight._listener import record
from skreweight._rows.batches import Batch
from skreweight._training.diagnostics import Figure
from skreweight._training.keep_best import Judgement
from skreweight._training.stage import Stage
from skreweight._training.step import Outcome

NO_DATA: dict[str, Any] = {"dataset_train": None, "dataset_valid": None}


class MembersListener:
    """Tells each member's estimator what concerns it.

    Parameters
    ----------
    nets : sequence of K sequences of ReweightedClassifier
        Those that share member k: more than one in a stage 1 that serves several.
    fresh_optimizer : callable ()
        Makes a new optimiser for the pack.
    on_epoch : callable (n_estimators) or None, default=None
        Called at the end of each epoch.

    Attributes
    ----------
    save : callable (bool) or None
        Called when an epoch has been counted, with whether it was the last one.
    """

    wants_batches = wants_validation = wants_gradients = False

    def __init__(
        self,
        nets: Sequence[Sequence[ReweightedClassifier]],
        fresh_optimizer: Callable[[], None],
        on_epoch: Callable[[int], None] | None = None,
    ) -> None:
        self._nets, self._fresh_optimizer, self._on_epoch = nets, fresh_optimizer, on_epoch
        self.save: Callable[[bool], None] | None = None

    def _tell(self, method: str, **kwargs: Any) -> None:
        for sharing in self._nets:
            for net in sharing:
                net.notify(method, **kwargs)

    def stage_begins(self, stage: Stage) -> None:
        """Make a new optimiser, if the stage wants it."""
        if stage.fresh_optimizer:
            self._fresh_optimizer()

    def epoch_begins(self, stage: Stage) -> None:
        """Open an entry of every history."""
        for sharing in self._nets:
            for net in sharing:
                net.stage_ = stage.number
        self._tell("on_epoch_begin", **NO_DATA)

    def batch_begins(self, batch: Batch) -> None:
        """Nobody listens to batches."""

    def gradients(self, batch: Batch) -> None:
        """Nobody listens to gradients."""

    def batch_ends(self, batch: Batch, outcome: Outcome) -> None:
        """Nobody listens to batches."""

    def judged(self, judgement: Judgement) -> None:
        """Nobody listens to outputs."""

    def figures(self, values: Mapping[str, Figure]) -> None:
        """Record each member's figures in its history."""
        for k, sharing in enumerate(self._nets):
            mine = {name: value[k] if isinstance(value, list) else value for name, value in values.items()}
            for net in sharing:
                record(net.history, mine)

    def epoch_ends(self) -> bool:
        """Close the entries; no stage ends early."""
        self._tell("on_epoch_end", **NO_DATA)
        if self._on_epoch is not None:
            self._on_epoch(sum(map(len, self._nets)))
        return False

    def epoch_counted(self, *, last: bool) -> None:
        """Save the pack, if there is a checkpoint."""
        if self.save is not None:
            self.save(last)

    def interrupted(self) -> None:
        """Ctrl-C stops the whole pack."""
        raise KeyboardInterrupt

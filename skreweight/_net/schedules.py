"""Learning-rate schedules that go on where they stood when training is taken up again.

skorch's ``LRScheduler`` makes its scheduler anew whenever training begins, from the number of epochs in the
history. Schedules that work recursively (most of torch's) then apply their factor once more, and one that
stage 2 restarted counts the epochs of stage 1.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from skorch.callbacks import Callback, LRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler as TorchScheduler

#: What a net's ``callbacks_`` holds.
Named = Iterable[tuple[str, Callback]]

_DROPPED = object()


def schedules_of(callbacks: Named) -> dict[str, dict[str, Any]]:
    """Return the state of every running schedule by the callback's name, as plain values only."""
    running = {name: getattr(c, "lr_scheduler_", None) for name, c in callbacks}
    return {name: _plain(s.state_dict()) for name, s in running.items() if isinstance(s, TorchScheduler)}


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the learning rate and the like of every parameter group."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def put_back(optimizer: Optimizer, settings: list[dict[str, Any]]) -> None:
    """Set the learning rate and the like to what `settings_of` returned earlier."""
    for group, old in zip(optimizer.param_groups, settings, strict=True):
        group.update(old)


def go_on(callbacks: Named, states: Mapping[str, dict[str, Any]]) -> None:
    """Put schedules that were made anew back to where they stood, by what `schedules_of` returned earlier."""
    for name, callback in callbacks:
        if name in states and isinstance(callback, LRScheduler):
            callback.lr_scheduler_.load_state_dict(states[name])


def restart(callbacks: Named, optimizer: Optimizer) -> None:
    """Begin every schedule anew that does not run on this optimiser."""
    for _, callback in callbacks:
        if not isinstance(callback, LRScheduler):
            continue
        running = callback.lr_scheduler_
        if running is None or getattr(running, "optimizer", None) is optimizer:
            continue
        callback.batch_idx_ = 0
        takes_epoch = "last_epoch" in inspect.signature(callback.policy_).parameters
        options = {"last_epoch": -1, **callback.kwargs} if takes_epoch else callback.kwargs
        callback.lr_scheduler_ = callback.policy_(optimizer, **options)


def _plain(value: Any) -> Any:
    """Leave out what torch.load(weights_only=True) would refuse: functions and arrays, which never change."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str | Counter):
        return value
    if isinstance(value, dict):
        items = {k: _plain(v) for k, v in value.items()}
        return {k: v for k, v in items.items() if v is not _DROPPED}
    if isinstance(value, list | tuple):
        entries = [_plain(v) for v in value]
        return _DROPPED if any(v is _DROPPED for v in entries) else type(value)(entries)
    return _DROPPED

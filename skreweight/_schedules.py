"""Learning-rate schedules that go on where they stood when training is taken up again.

skorch's ``LRScheduler`` makes its scheduler anew whenever training begins, from the number of epochs in the
history. Schedules that work recursively (most of torch's) then apply their factor once more, and one that
stage 2 restarted counts the epochs of stage 1.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import LRScheduler as TorchScheduler

if TYPE_CHECKING:
    from skreweight._classifier import ReweightedClassifier

_DROPPED = object()


def schedules_of(net: ReweightedClassifier) -> dict[str, dict[str, Any]]:
    """Return the state of every running schedule by the callback's name, as plain values only."""
    running = {name: getattr(c, "lr_scheduler_", None) for name, c in net.callbacks_}
    return {name: _plain(s.state_dict()) for name, s in running.items() if isinstance(s, TorchScheduler)}


@contextmanager
def schedules_going_on(net: ReweightedClassifier) -> Iterator[None]:
    """Context for the start of training: schedules that ran before, or were loaded, go on where they stood."""
    states = schedules_of(net)
    groups = net.optimizer_.param_groups
    before = [{k: v for k, v in group.items() if k != "params"} for group in groups]
    yield
    states |= net.progress_.schedules  # a callback may have loaded a checkpoint just now
    net.progress_.schedules = {}
    going_on = [(c, states[n]) for n, c in net.callbacks_ if n in states and isinstance(c, LRScheduler)]
    for callback, state in going_on:
        callback.lr_scheduler_.load_state_dict(state)
    if going_on:  # making a scheduler has moved the learning rates
        for group, old in zip(groups, before, strict=True):
            group.update(old)


def restart_schedules(net: ReweightedClassifier) -> None:
    """Begin every schedule anew, on the optimiser as it is now."""
    for _, callback in net.callbacks_:
        if isinstance(callback, LRScheduler):
            callback.batch_idx_ = 0
            takes_epoch = "last_epoch" in inspect.signature(callback.policy_).parameters
            options = {"last_epoch": -1, **callback.kwargs} if takes_epoch else callback.kwargs
            callback.lr_scheduler_ = callback._get_scheduler(net, callback.policy_, **options)


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

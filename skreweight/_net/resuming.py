"""The state of an estimator between two epochs: all that makes the rest of its training what it would have been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import PrintLog
from skorch.history import History
from torch import Tensor, nn

from skreweight._net.schedules import go_on, schedules_of

_NOT_PLAIN = object()


def state_of(net: NeuralNet) -> dict[str, Any]:
    """Return the state of an estimator in training, after an epoch: plain values and tensors only.

    Parameters
    ----------
    net : ReweightedClassifier
    """
    progress = net.progress_
    return {
        "module": _tensors(net.module_),
        "trainable": {
            name: p.requires_grad or name in progress.frozen for name, p in net.module_.named_parameters()
        },
        "criterion": _tensors(net.criterion_),
        "optimizer": net.optimizer_.state_dict(),
        "training": progress.state_dict(schedules_of(net.callbacks_)),
        "history": plain_history(net.history),
        "callbacks": {name: _learned_by(callback) for name, callback in net.callbacks_},
    }


def go_on_from(net: NeuralNet, state: Mapping[str, Any]) -> None:
    """Bring an estimator whose training has begun, and not yet trained, to a state that `state_of` returned.

    Raises
    ------
    ValueError
        Where its module or optimiser are others by now.
    """
    try:
        _put(net.module_, state["module"])
        _put(net.criterion_, state["criterion"])
        net.optimizer_.load_state_dict(state["optimizer"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(
            "The checkpoint does not fit the module or the optimiser, whose code has changed "
            f"({str(error).splitlines()[0]}). Delete the file, or name another path."
        ) from error
    for name, parameter in net.module_.named_parameters():
        parameter.requires_grad_(state["trainable"][name])
    net.progress_.load_state_dict(state["training"], torch.device(net.device))
    go_on(net.callbacks_, net.progress_.schedules)
    net.progress_.schedules = {}
    put_history(net, state["history"])
    for name, callback in net.callbacks_:
        vars(callback).update(state["callbacks"].get(name, {}))


def plain_history(history: History) -> list[dict[str, Any]]:
    """Return the entries of a history as plain values.

    Raises
    ------
    ValueError
        For an entry that is neither a plain value nor a tensor.
    """
    rows = []
    for row in history:
        plain = {name: _plain(value) for name, value in row.items()}
        odd = next((name for name, value in plain.items() if value is _NOT_PLAIN), None)
        if odd is not None:
            raise ValueError(
                f"A checkpoint cannot hold the entry {odd!r} of the history, got {type(row[odd]).__name__}: record "
                "numbers, strings, lists or tensors."
            )
        rows.append(plain)
    return rows


def put_history(net: NeuralNet, rows: list[dict[str, Any]]) -> None:
    """Give an estimator a history that `plain_history` returned."""
    net.history_ = History()
    net.history_.extend(rows)
    if rows:
        net.stage_ = rows[-1]["stage"]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, those that no ``state_dict`` has included."""
    own = (*module.named_parameters(), *module.named_buffers())
    return {name: tensor.detach() for name, tensor in own}


@torch.no_grad()
def _put(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    own = _tensors(module)
    if own.keys() != saved.keys():
        raise ValueError(f"other parameters: {', '.join(sorted(own.keys() ^ saved.keys())[:3])}")
    for name, tensor in own.items():
        if tensor.shape != saved[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {tuple(saved[name].shape)}")
        tensor.copy_(saved[name])


def _learned_by(callback: Any) -> dict[str, Any]:
    """What a callback has gathered: attributes that end with an underscore and can be held."""
    if isinstance(callback, PrintLog):  # its headline is wanted again
        return {}
    named = {name: _plain(v) for name, v in vars(callback).items() if name[-1] == "_" and name[-2:] != "__"}
    return {name: value for name, value in named.items() if value is not _NOT_PLAIN}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str | Tensor):
        return value
    if isinstance(value, Mapping):
        items = {k: _plain(v) for k, v in value.items()}
        return _NOT_PLAIN if any(v is _NOT_PLAIN for v in items.values()) else items
    if type(value) in (list, tuple):
        entries = [_plain(v) for v in value]
        return _NOT_PLAIN if any(v is _NOT_PLAIN for v in entries) else type(value)(entries)
    return _NOT_PLAIN

"""One optimiser for a pack out of the settings of a member's, and its state given back to each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from skreweight.core.model import Model


def packed(optimizer: Optimizer, module: nn.Module, model: Model) -> Optimizer:
    """Return a new optimiser of the same kind and groups for the stacked parameters.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        A member's.
    module : torch.nn.Module
        That member's.
    model : Model
    """
    names = {id(p): name for name, p in module.named_parameters()}
    stacked = dict(zip(model.names, model.parameters, strict=True))
    groups = []
    for group in optimizer.param_groups:
        mine = [stacked[names[id(p)]] for p in group["params"] if names.get(id(p)) in stacked]
        if mine:
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": mine})
    return type(optimizer)(groups)  # type: ignore[call-arg]


def repeated(optimizer: Optimizer, model: Model, other: Model, members: Tensor) -> Optimizer:
    """Return an optimiser for another model whose member j goes on from this one's number ``members[j]``."""
    stacked = {id(old): new for old, new in zip(model.parameters, other.parameters, strict=True)}
    groups = [
        {**group, "params": [stacked[id(p)] for p in group["params"]]} for group in optimizer.param_groups
    ]
    made: Optimizer = type(optimizer)(groups)  # type: ignore[call-arg]
    for old, new in zip(model.parameters, other.parameters, strict=True):
        made.state[new] = {
            name: value[members] if _has_members(value, old) else _copied(value)
            for name, value in optimizer.state.get(old, {}).items()
        }
        if not made.state[new]:
            del made.state[new]
    return made


def give_back(optimizer: Optimizer, model: Model, nets: Sequence[tuple[nn.Module, Optimizer]]) -> None:
    """Write the state of a pack's optimiser into those of its members.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
    model : Model
    nets : sequence of K (module, optimiser)
    """
    for k, (module, own) in enumerate(nets):
        parameters = dict(module.named_parameters())
        for name, p in zip(model.names, model.parameters, strict=True):
            state = optimizer.state.get(p)
            if state:
                own.state[parameters[name]] = {
                    key: value[k].clone() if _has_members(value, p) else _copied(value)
                    for key, value in state.items()
                }


def _has_members(value: object, parameter: Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape


def _copied(value: object) -> object:
    return value.clone() if isinstance(value, torch.Tensor) else value

"""Module and optimiser from what the user gave for them."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from skreweight._names import check_arguments
from skreweight.modules import MLP


def made_module(module: Any, kwargs: dict[str, Any], sizes: Mapping[str, int]) -> nn.Module:
    """Return a new module.

    Parameters
    ----------
    module : class, instance or None
        An instance is copied; with `kwargs`, its class is made anew. None stands for a `skreweight.modules.MLP`
        that scales its input.
    kwargs : dict
        The user's ``module__*``.
    sizes : mapping of str to int
        ``n_features`` and ``n_classes`` as far as they are known, for a class that asks for them.

    Raises
    ------
    ValueError
        For an argument that the class does not take, or a size that the MLP lacks.
    """
    given = MLP if module is None else module
    if isinstance(given, nn.Module) and not kwargs:
        return copy.deepcopy(given)
    if module is None:
        kwargs = {"scaled": True, **kwargs}
    make: Any = type(given) if isinstance(given, nn.Module) else given
    if not callable(make):
        raise ValueError(f"module must be a torch.nn.Module, its class or None, got {given!r}.")
    check_arguments("module", make, kwargs)
    missing = [name for name in ("n_features", "n_classes") if name not in {**sizes, **kwargs}]
    if module is None and missing:
        raise ValueError(
            f"module=None cannot be built without {missing[0]}: set module__{missing[0]}, or call fit with an "
            "array, which tells it; X as a mapping needs a module of your own."
        )
    asked, there = kwargs.get("n_features"), sizes.get("n_features")
    if module is None and asked is not None and there is not None and asked != there:
        raise ValueError(
            f"module__n_features must be the number of columns of X, {there}, got {asked}: leave it out."
        )
    accepted = inspect.signature(make).parameters
    made: nn.Module = make(**{**{name: n for name, n in sizes.items() if name in accepted}, **kwargs})
    return made


def fused_where_it_can_be(optimizer: Any, kwargs: Mapping[str, Any], module: nn.Module) -> dict[str, bool]:
    """Return ``fused=True`` where torch has it for this optimiser and module and the user said nothing else."""
    kinds = {torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD}
    chosen = {"foreach", "fused", "differentiable", "capturable"} & set(kwargs)
    plain = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in module.parameters())
    return {"fused": True} if optimizer in kinds and not chosen and plain else {}

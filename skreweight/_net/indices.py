"""Integers for a module that looks them up: an Embedding takes no other figures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skreweight._net.explain import FAILURES
from skreweight._rows.check import is_of_integers, rows_of

#: Layers that take integers alone.
LOOKING_UP = (nn.Embedding, nn.EmbeddingBag)


def looks_up(module: nn.Module, x: Any) -> bool:
    """Whether a module takes rows as integers and not as floats: tried on one of them, where it has an Embedding.

    Parameters
    ----------
    module : torch.nn.Module
        Its mode stays what it is.
    x : torch.Tensor of shape (N, ...) of an integer dtype
        With a row at least.
    """
    if not has_lookup(module):
        return False
    floating = next((p for p in module.parameters() if p.is_floating_point()), None)
    if floating is None:
        return False
    row = x[:1].to(floating.device)
    return not _takes(module, row.to(floating.dtype)) and _takes(module, row.long())


def rows_for(net: Any, X: Any) -> Tensor | dict[str, Tensor]:
    """Return rows as `rows_of` does, integers of an array as int64 where the net's module looks them up.

    Parameters
    ----------
    net : ReweightedClassifier
        With its module and what is known of the columns.
    X : array-like, torch.Tensor, or mapping of arrays
    """
    tried = net.module is not None and is_of_integers(X) and has_lookup(net.module_)
    x, _ = rows_of(
        X, net._columns(), owner=type(net).__name__, allow_nd=net.module is not None, integers=tried
    )
    if tried and isinstance(x, Tensor):
        return x.long() if looks_up(net.module_, x) else x.to(torch.float32)
    return x


def has_lookup(module: nn.Module) -> bool:
    """Whether a layer of a module takes integers alone."""
    return any(isinstance(part, LOOKING_UP) for part in module.modules())


def _takes(module: nn.Module, row: Tensor) -> bool:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            module(row)
    except IndexError:  # of a number that is too large: the next batch says so
        return True
    except FAILURES:
        return False
    finally:
        for part, training in modes.items():
            part.training = training
    return True

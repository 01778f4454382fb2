"""What a fit depends on as short texts that can be compared: parameters and data."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Mapping
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skreweight._rows.check import is_dataset

#: How far objects are looked into.
DEEPEST = 5


def digest(*parts: bytes | str) -> str:
    """Return a short digest."""
    found = hashlib.blake2b(digest_size=12)
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()


def of_rows(x: Any) -> str:
    """Return what tells features, labels or weights from others: kind, shape and digest.

    Of a torch Dataset only its class and length are looked at: its items may be drawn at random.
    """
    if x is None:
        return "None"
    if isinstance(x, Mapping):
        return "{" + ", ".join(f"{name}: {of_rows(value)}" for name, value in x.items()) + "}"
    if is_dataset(x):
        return f"{type(x).__qualname__} of {len(x)} items"
    if isinstance(x, Tensor):
        flat = x.detach().cpu().contiguous().flatten()
        figures = flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0, np.uint8)
        return f"{tuple(x.shape)} {x.dtype} {digest(figures.tobytes())}"
    array = np.asarray(x)
    raw = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return f"{array.shape} {array.dtype} {digest(raw)}"


def of_value(value: Any, depth: int = 0) -> str:
    """Return a parameter's value as a text: equal for what trains alike, in another process as well."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | complex | str | torch.dtype | torch.device):
        return repr(value)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, np.random.RandomState | np.random.Generator | torch.Generator):
        return type(value).__qualname__  # what it draws changes with use
    if isinstance(value, Tensor | np.ndarray) or hasattr(value, "iloc"):
        return of_rows(value if not hasattr(value, "iloc") else np.asarray(value))
    if depth > DEEPEST:
        return type(value).__qualname__
    deeper = functools.partial(of_value, depth=depth + 1)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {deeper(value[key])}" for key in value) + "}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(deeper, value))})"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({', '.join(sorted(map(deeper, value)))})"
    if isinstance(value, functools.partial):
        return f"partial({deeper(value.func)}, {deeper(value.args)}, {deeper(value.keywords)})"
    if inspect.isroutine(value):
        code = getattr(value, "__code__", None)
        name = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', '')}"
        return name if code is None else f"{name} {_of_code(code)}"
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, nn.Module):
        tensors = {name: of_rows(t) for name, t in value.state_dict().items() if isinstance(t, Tensor)}
        return f"{kind} {digest(repr(value), repr(tensors))}"
    if hasattr(value, "get_params") and not isinstance(value, type):
        return f"{kind}({deeper(value.get_params(deep=False))})"
    own = {name: v for name, v in getattr(value, "__dict__", {}).items() if not name.startswith("__")}
    return f"{kind}({deeper(own)})"


def _of_code(code: CodeType) -> str:
    plain = [c for c in code.co_consts if c is None or isinstance(c, bool | int | float | str | bytes)]
    return digest(code.co_code, repr(plain), repr(code.co_names))

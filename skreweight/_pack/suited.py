"""Which estimators can be members of one pack, and why others cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from skreweight._classifier import ReweightedClassifier
from skreweight._rows.check import is_dataset

#: Parameters that members may set each for itself: what they do is learned member by member.
OF_EACH = {"random_state", "verbose", "validation_data"}
#: Optimisers whose steps are taken entry by entry, so that a stack of parameters is stepped as each would be.
ELEMENTWISE = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.Adamax,
)


def why_alone(net: ReweightedClassifier, X: Any) -> str | None:
    """Return why an estimator is trained alone, or None where it can be a member of a pack.

    Parameters
    ----------
    net : ReweightedClassifier
        Not fitted.
    X : what it would be fitted on
    """
    refusals = {
        "X is no array": is_dataset(X) or isinstance(X, dict),
        "callbacks watch it": net.callbacks not in (None, "disable", []),
        "iterator_train is a loader": net.iterator_train is not None,
        "iterator_train__ sets more than shuffle and drop_last": bool(
            set(net.get_params_for("iterator_train")) - {"shuffle", "drop_last"}
        ),
        f"optimizer {getattr(net.optimizer, '__name__', net.optimizer)} mixes parameters": net.optimizer
        not in ELEMENTWISE,
        "on_nonfinite='skip'": net.on_nonfinite == "skip",
        "diagnostics=True": bool(net.diagnostics),
        "autocast": net.autocast is not None,
        "compile=True": bool(net.compile),
        "warm_start=True": bool(net.warm_start),
        "train_on_validation=True with given rows": bool(net.train_on_validation)
        and isinstance(net.validation_data, tuple | list),
        "it is a subclass": type(net) is not ReweightedClassifier,
    }
    return next((reason for reason, holds in refusals.items() if holds), None)


def why_module_alone(module: nn.Module) -> str | None:
    """Return why a module is trained alone, or None where `torch.func.vmap` runs it as it runs by itself."""
    for part in module.modules():
        if isinstance(part, nn.RNNBase):
            return f"{type(part).__name__} cannot be run for several networks at once"
        if isinstance(part, nn.Embedding) and (part.padding_idx is not None or part.max_norm is not None):
            return "an Embedding with padding_idx or max_norm cannot be run for several networks at once"
        if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks:
            return "a hook watches the module"
    return None


def agreement(net: ReweightedClassifier) -> tuple[Any, ...]:
    """Return what members of one pack must agree in before the weighting sets in, as a key."""
    params = net.get_params(deep=True)
    left_out = {
        name for name in params if name in OF_EACH or name.split("__")[0] in ("weighting", "callbacks")
    }
    return tuple(sorted((name, _key(value)) for name, value in params.items() if name not in left_out))


def _key(value: Any) -> Any:
    """Return what can be compared and hashed in place of a parameter's value."""
    if isinstance(value, np.ndarray):
        return (value.shape, value.tobytes())
    if isinstance(value, dict):
        return tuple(sorted((str(k), _key(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return tuple(_key(v) for v in value)
    if value is None or isinstance(value, bool | int | float | str):
        return (type(value).__name__, value)
    return (type(value).__name__, id(value))

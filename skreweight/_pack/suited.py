"""Which estimators can be members of one pack, and why others cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from skreweight._classifier import ReweightedClassifier
from skreweight._pack.rates import may_differ, rates_of
from skreweight._rows.check import is_dataset
from skreweight.weighting import Weighting

#: Parameters that members may set each for itself: what they do is learned member by member.
OF_EACH = {"random_state", "verbose", "validation_data"}
#: Parameters of the optimiser that they may, where `may_differ` says so.
RATES = {"lr", "optimizer__weight_decay"}
#: Parameters that stage 1 knows nothing of.
STAGE_TWO = {"max_epochs", "keep_best", "restart_stage_two", "validation_batch_size"}
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
        "it has a checkpoint": net.checkpoint is not None,
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
    """Return what members of one pack must agree in before the weighting sets in, as a key.

    Parameters
    ----------
    net : ReweightedClassifier
        With its components.
    """
    left_out = OF_EACH | STAGE_TWO | (RATES if may_differ(net) else set())
    if net.defer_class_weight:
        left_out = left_out | {"class_weight"}
    return _parameters(
        net, lambda name: name not in left_out and name.split("__")[0] not in ("weighting", "callbacks")
    )


def same_stage_two(first: ReweightedClassifier, second: ReweightedClassifier) -> bool:
    """Whether two estimators that agree in stage 1 can be members of one pack in stage 2 as well."""
    names = STAGE_TWO | {"class_weight"}
    if any(key_of(getattr(first, name)) != key_of(getattr(second, name)) for name in names):
        return False
    if first.weighting_.needs_products and rates_of(first) != rates_of(second):
        return False  # virtual steps are taken at one rate
    return _stackable(first.weighting_, second.weighting_)


def _stackable(first: Weighting, second: Weighting) -> bool:
    if type(first) is not type(second):
        return False
    try:
        type(first).stacked([first, second], torch.zeros(()))
    except ValueError:
        return False
    return True


def structure(net: ReweightedClassifier) -> tuple[Any, ...]:
    """Return what networks must agree in so that one call can run them all, as a key."""
    return (
        *_parameters(net, lambda name: name in ("device", "module") or name.startswith("module__")),
        *((name, tuple(t.shape), t.dtype) for name, t in net.module_.state_dict().items()),
    )


def _parameters(net: ReweightedClassifier, wanted: Callable[[str], bool]) -> tuple[Any, ...]:
    params = net.get_params(deep=True)
    return tuple(sorted((name, key_of(value)) for name, value in params.items() if wanted(name)))


def key_of(value: Any) -> Any:
    """Return what can be compared, sorted and hashed in place of a parameter's value."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return ("ndarray", str(value.shape), value.tobytes())
    if isinstance(value, dict):
        return ("dict", *sorted((str(k), key_of(v)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, *(key_of(v) for v in value))
    if value is None or isinstance(value, bool | int | float | str):
        return (type(value).__name__, value)
    return (type(value).__name__, id(value))

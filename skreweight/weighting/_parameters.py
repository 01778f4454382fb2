"""Hyper-parameters of a weighting: a field of a dataclass with its range, written once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from numbers import Integral, Real
from typing import Any, TypeVar, dataclass_transform

from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor
from torch import where as torch_where

_Class = TypeVar("_Class")


def number(
    default: Any,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    or_none: bool = False,
) -> Any:
    """Return the field of a real number, which the members of a pack may set each for itself.

    Parameters
    ----------
    default : float or None
        None: None is allowed too.
    above, at_least, below, at_most : float or None, default=None
        The range.
    or_none : bool, default=False
        Whether None is allowed beside a default that is a number.
    """
    low, high = (at_least if above is None else above), (at_most if below is None else below)
    left, right = above is None and low is not None, below is None and high is not None
    closed = {(True, True): "both", (True, False): "left", (False, True): "right", (False, False): "neither"}
    unbounded = low is None and high is None
    allowed: list[Any] = [Real if unbounded else Interval(Real, low, high, closed=closed[left, right])]
    return _field(default, [*allowed, None] if or_none else allowed, stacks=True)


def count(default: int | None, *, at_least: int) -> Any:
    """Return the field of a whole number, the same for all members of a pack; default None: None is allowed too.

    Parameters
    ----------
    default : int or None
    at_least : int
        The smallest value that is allowed.
    """
    return _field(default, [Interval(Integral, at_least, None, closed="left")])


def choice(default: str, *others: str) -> Any:
    """Return the field of one of some names.

    Parameters
    ----------
    default, *others : str
        The names that are allowed.
    """
    return _field(default, [StrOptions({default, *others})])


def flag(default: bool) -> Any:
    """Return the field of True or False.

    Parameters
    ----------
    default : bool
    """
    return _field(default, ["boolean"])


def _field(default: Any, allowed: list[Any], *, stacks: bool = False) -> Any:
    return field(
        default=default, metadata={"allowed": allowed + [None] * (default is None), "stacks": stacks}
    )


@dataclass_transform(kw_only_default=True, field_specifiers=(number, count, choice, flag))
def hyperparameters(cls: type[_Class]) -> type[_Class]:
    """Make ``__init__`` of the class's fields, by keyword: it stores and does nothing else.

    Parameters
    ----------
    cls : class
        Its annotated fields are the hyper-parameters, each made by `number`, `count`, `choice` or `flag`.
    """
    return dataclass(kw_only=True, eq=False, repr=False)(cls)


def allowed_by(cls: type) -> dict[str, list[Any]]:
    """Return what each hyper-parameter may be, as scikit-learn's constraints."""
    return {f.name: f.metadata["allowed"] for f in fields(cls)} if is_dataclass(cls) else {}


def stacked_parameters(cls: type, members: Sequence[Any], like: Tensor) -> dict[str, Any]:
    """Return the hyper-parameters of K weightings as those of one: numbers that differ become (K, 1) tensors.

    Raises
    ------
    ValueError
        Where they differ in what is no number.
    """
    made = {}
    for name in members[0].get_params(deep=False):
        values = [getattr(member, name) for member in members]
        stacks = is_dataclass(cls) and cls.__dataclass_fields__[name].metadata["stacks"]
        if all(_same(value, values[0]) for value in values):
            made[name] = values[0]
        elif stacks and None not in values:
            made[name] = like.new_tensor([float(value) for value in values]).unsqueeze(-1)
        else:
            raise ValueError(f"Members trained at once must agree in {name}, got {values}.")
    return made


def _same(first: Any, second: Any) -> bool:
    return bool(first is second or first == second)


def log(value: Tensor | float) -> Tensor | float:
    """Return the logarithm of a number, which may be 0, or of one number a member."""
    return value.log() if isinstance(value, Tensor) else math.log(value) if value else -math.inf


def either(condition: Tensor | bool, first: Any, second: Any) -> Any:
    """Return the first where the condition holds, which is one for all or one for each member."""
    return (
        torch_where(condition, first, second)
        if isinstance(condition, Tensor)
        else first
        if condition
        else second
    )

"""Checks of what the networks are built from: one clear sentence instead of a failure layers below."""

import math
from numbers import Integral, Real

from sklearn.utils import check_scalar


def check_size(value: int, name: str, minimum: int = 1) -> int:
    """Return a number of features, classes or units: an integer of at least ``minimum``."""
    return int(check_scalar(value, name, Integral, min_val=minimum))


def check_dropout(value: float, name: str) -> float:
    """Return a probability of dropping a unit, in [0, 1)."""
    checked = float(check_scalar(value, name, Real, min_val=0, max_val=1, include_boundaries="left"))
    if math.isnan(checked):
        raise ValueError(f"{name} must lie in [0, 1), got {checked}.")
    return checked

"""The parameters of the L_p penalty, the same for every method that learns on validation rows."""

from __future__ import annotations

from numbers import Real
from typing import Any

from sklearn.utils._param_validation import Interval

PENALTY_CONSTRAINTS: dict[str, list[Any]] = {
    "lp_norm": [Interval(Real, 1, None, closed="left")],
    "lp_coef": [Interval(Real, 0, None, closed="left")],
}

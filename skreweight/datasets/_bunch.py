"""The form in which the loaders return tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch


def pack(
    data: pd.DataFrame | np.ndarray,
    target: pd.Series | np.ndarray,
    *,
    feature_names: list[str],
    target_name: str,
    as_frame: bool,
    return_X_y: bool,
    **fields: Any,
) -> Bunch | tuple[Any, Any]:
    """Return `(data, target)`, or a Bunch of them, the joint frame, `feature_names` and further fields."""
    if as_frame:
        data = pd.DataFrame(data, columns=feature_names, copy=False)
        target = pd.Series(target, index=data.index, name=target_name, copy=False)
    elif isinstance(data, pd.DataFrame):
        # copy=True: pandas hands out its own memory read-only, and torch warns of such arrays.
        data, target = data.to_numpy(copy=True), np.asarray(target.tolist())
    if return_X_y:
        return data, target
    frame = pd.concat([data, target], axis=1) if as_frame else None
    return Bunch(data=data, target=target, frame=frame, feature_names=feature_names, **fields)

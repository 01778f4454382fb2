"""A progress bar, with the time that is left."""

from __future__ import annotations

from typing import Any


def new_bar(n_units: int | None, what: str, unit: str = "epoch") -> Any:
    """Return a bar of so many units, whose number may not be known; None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=n_units, desc=what, unit=unit)

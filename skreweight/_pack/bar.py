"""A progress bar, with the time that is left."""

from __future__ import annotations

from typing import Any


def new_bar(n_epochs: int | None, what: str) -> Any:
    """Return a bar of so many epochs, whose number may not be known; None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=n_epochs, desc=what, unit="epoch")

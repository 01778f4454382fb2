"""matplotlib, imported only when something is drawn, and the colours that all displays share."""

from __future__ import annotations

from typing import Any

#: Told apart with every common kind of colour blindness (Okabe and Ito), dark ones first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


def axes_for(display: str, ax: Any) -> Any:
    """Return the axes to draw on: those given, or new ones.

    Raises
    ------
    ImportError
        Where matplotlib is missing, with the extra that brings it.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f'{display} needs matplotlib: pip install "skreweight[plot]".') from error
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def colour(place: int) -> str:
    """Return a colour by its place; they begin again where there are more places than colours."""
    return COLOURS[place % len(COLOURS)]

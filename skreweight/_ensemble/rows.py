"""The rows that members are trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skreweight._ensemble.folds import IntArray
from skreweight._ensemble.probabilities import FloatArray


@dataclass(frozen=True)
class Table:
    """Encoded rows with all that is known of them.

    Attributes
    ----------
    x : ndarray of shape (n_rows, ...)
    codes : ndarray of shape (n_rows,)
    sample_weights, weights : ndarray of shape (n_rows,)
        Of the rows, without and with class weights.
    validation : tuple of ndarray or None
        Encoded validation rows of the user's and their codes.
    """

    x: Any
    codes: IntArray
    sample_weights: FloatArray
    weights: FloatArray
    validation: tuple[Any, IntArray] | None = None

    @property
    def n_classes(self) -> int:
        """C; every class has a row."""
        return int(self.codes.max()) + 1

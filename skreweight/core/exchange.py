"""Where figures of one process meet those of the others that train the same networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class Exchange:
    """One process: every sum is already the sum over all.

    What a step needs of other processes is a sum over the rows of the batch: F w, normalisers, moving averages. Each
    goes through here and nowhere else, so that training over processes has one place to put its all-reduce.
    """

    def sum(self, values: Tensor) -> Tensor:
        """Return a figure of the batch, (*M, 1), summed over processes."""
        return values

    def gradients(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return Σ_i w_i ∇f_i, shaped like the parameters, summed over processes."""
        return gradients

    def size(self, n_rows: int) -> int:
        """Return B, the rows of the batch in all processes."""
        return n_rows


#: One process.
LOCAL = Exchange()

"""Where figures of one process meet those of the others that train the same networks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class Exchange:
    """One process: it has every row of a batch, and every sum is already the sum over all.

    What a step needs of other processes goes through here and nowhere else: sums over the rows of the batch (F w,
    normalisers, moving averages), and for methods that compare rows the figures of all of them. Over processes each
    has its share of the batch, and values below are those of that share; where it is empty, of one row that counts
    for nothing.

    Attributes
    ----------
    is_shared : bool
        Whether there are other processes.
    rank, n_processes : int
    """

    is_shared = False
    rank = 0
    n_processes = 1

    def sum(self, values: Tensor) -> Tensor:
        """Return a figure of the batch, (*M, 1), summed over processes."""
        return values

    def max(self, values: Tensor) -> Tensor:
        """Return the largest of a figure of the batch, (*M, 1), over processes."""
        return values

    def log_sum_exp(self, values: Tensor) -> Tensor:
        """Return log Σ exp(v) over the processes of a figure of the batch, (*M, 1)."""
        return values

    def loss(self, values: Tensor) -> Tensor:
        """Return Σ_i w_i f_i, (*M, 1), summed over processes; a KeyboardInterrupt that came to one comes to all."""
        return values

    def gradients(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return Σ_i w_i ∇f_i, shaped like the parameters, summed over processes."""
        return gradients

    def size(self, n_rows: int) -> int:
        """Return B, the rows of the batch in all processes."""
        return n_rows

    def gathered(self, *values: Tensor) -> list[Tensor]:
        """Return figures of the rows of this share, (*M, b) each, of all rows of the batch in its order, (*M, B)."""
        return list(values)

    def own(self, values: Tensor) -> Tensor:
        """Return this share of figures of all rows, (*M, B) -> (*M, b)."""
        return values

    def multiplicity(self, multiplicity: Tensor | None, losses: Tensor) -> Tensor | None:
        """Return how often each row of the share counts, (*M, b) or None: once."""
        return multiplicity


#: One process.
LOCAL = Exchange()

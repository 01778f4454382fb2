"""Which rows belong to which process: stored weights live with them, and each process reads its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

#: The most rows that lie next to each other and belong to one process, and
LONGEST_RUN = 4096
#: how many such runs a process has at least, where there are as many rows: classes that lie together are spread.
RUNS = 64


class Shares(NamedTuple):
    """How a batch is spread: the process of each row (B,), in their order, and how many rows each process has."""

    owners: Tensor
    counts: list[int]


class Sharing:
    """Spreads rows over processes, in runs of neighbours: a memory-mapped file is read in pieces.

    Parameters
    ----------
    n_rows : int
        Rows there are.
    rank, n_processes : int
    begins : callable (Shares)
        Told of each batch before its rows are used.

    Examples
    --------
    >>> import torch
    >>> sharing = Sharing(6, 1, 2, lambda shares: None)
    >>> mine, shares = sharing.cut(torch.tensor([5, 0, 1, 2]))
    >>> mine.tolist(), shares.counts
    ([0, 2], [2, 2])
    """

    def __init__(self, n_rows: int, rank: int, n_processes: int, begins: Callable[[Shares], None]) -> None:
        self.rank, self.n_processes, self.begins = rank, n_processes, begins
        self._run = min(LONGEST_RUN, max(1, n_rows // (RUNS * n_processes)))

    def owners(self, rows: Tensor) -> Tensor:
        """Return the process that each row belongs to."""
        return torch.div(rows, self._run, rounding_mode="floor") % self.n_processes

    def cut(self, rows: Tensor) -> tuple[Tensor, Shares]:
        """Return the places in a batch of this process's rows, and how the batch is spread.

        A process without a row gets the first, which belongs to another: it counts for nothing there.
        """
        owners = self.owners(rows)
        mine = (owners == self.rank).nonzero().squeeze(-1)
        counts = torch.bincount(owners, minlength=self.n_processes).tolist()
        return (mine if counts[self.rank] else mine.new_zeros(1)), Shares(owners, counts)

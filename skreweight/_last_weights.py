"""The weight that each row had when stage 2 last came to it."""

from __future__ import annotations

import torch
from torch import Tensor

#: Batches noted before their weights are written: one write for many costs a tenth of one for each.
N_AT_ONCE = 256


class LastWeights:
    """Last weights of the rows, scaled such that 1 is what a row weighs in a plain mean.

    Parameters
    ----------
    n_rows : int
        A row that stage 2 has not come to (Ctrl-C, ``drop_last``) counts as in stage 1: 1.
    device : torch.device
    """

    def __init__(self, n_rows: int, device: torch.device) -> None:
        self._values = torch.ones(n_rows, dtype=torch.float64, device=device)
        self._noted: list[tuple[Tensor, Tensor]] = []

    def note(self, rows: Tensor, weights: Tensor, *, may_come_again: bool) -> None:
        """Note the weights of a batch, which sum to about 1; nothing may write into them later.

        Parameters
        ----------
        rows : torch.Tensor of shape (B,), int64
        weights : torch.Tensor of shape (B,)
        may_come_again : bool
            Whether a row may be in more than one batch before `write` is called, as it is at the end of an
            epoch. One write of both would be ambiguous.
        """
        self._noted.append((rows, weights))
        if may_come_again or len(self._noted) == N_AT_ONCE:
            self.write()

    def values(self) -> Tensor:
        """Return the weights of all rows, shape (n_rows,), float64."""
        self.write()
        return self._values

    def write(self) -> None:
        """Write what was noted; from here on its rows may come again."""
        if not self._noted:
            return
        rows = torch.cat([rows for rows, _ in self._noted])
        weights = torch.cat([weights * len(weights) for _, weights in self._noted])
        self._values.index_copy_(0, rows, weights.to(self._values.dtype))
        self._noted.clear()

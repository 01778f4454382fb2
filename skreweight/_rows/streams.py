"""Rows in random order without an end, for members that each have other rows and other numbers of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class _Pool:
    """Some rows in random order, over and over; each comes once before any comes again."""

    def __init__(self, rows: Tensor, generator: torch.Generator) -> None:
        self._rows, self.generator = rows, generator
        self.left = rows[:0]

    def take(self, n: int) -> Tensor:
        parts = [self.left]
        short = n - len(self.left)
        while short > 0:
            parts.append(self._rows[torch.randperm(len(self._rows), generator=self.generator)])
            short -= len(self._rows)
        drawn = torch.cat(parts)
        self.left = drawn[n:]
        return drawn[:n]


class Streams:
    """Batches out of one endless stream of rows a member, a fixed number of them an epoch.

    A stream takes its rows from the member's pools in turn: from one pool with all rows it is what shuffling
    gives, from a pool for every class each batch holds the classes in equal numbers. The next epoch goes on
    where the last one ended, so a row of the pool comes once before any comes again. Serves as ``batch_sampler`` of
    `skreweight._rows.batches.TensorBatches`.

    Parameters
    ----------
    pools : sequence of K sequences of torch.Tensor of shape (n,), int64
        The rows of each member by pool, on the host; none is empty.
    batch_size, n_batches : int
        Rows of a batch, batches of an epoch.
    seeds : sequence of K int
        Of the members' orders.

    Examples
    --------
    >>> import torch
    >>> streams = Streams([[torch.tensor([0, 1, 2, 3]), torch.tensor([9])]], batch_size=4, n_batches=2, seeds=[0])
    >>> [sorted(batch[0].tolist())[2:] for batch in streams]
    [[9, 9], [9, 9]]
    """

    def __init__(
        self, pools: Sequence[Sequence[Tensor]], batch_size: int, n_batches: int, seeds: Sequence[int]
    ) -> None:
        self.batch_size, self.n_batches = batch_size, n_batches
        self._pools = [
            [_Pool(rows, generator) for rows in own]
            for own, generator in zip(pools, [torch.Generator().manual_seed(s) for s in seeds], strict=True)
        ]
        self._n_drawn = 0

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return self.n_batches

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the batches of an epoch, (K, B) each."""
        n = self.batch_size * self.n_batches
        rows = torch.stack([self._drawn(own, n) for own in self._pools])
        self._n_drawn += n
        yield from rows.split(self.batch_size, dim=-1)

    def state_dict(self) -> dict[str, Any]:
        """Return where the streams stand between two epochs."""
        return {
            "n_drawn": self._n_drawn,
            "generators": [pools[0].generator.get_state() for pools in self._pools],
            "left": [[pool.left for pool in pools] for pools in self._pools],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where other streams of the same rows stood."""
        self._n_drawn = state["n_drawn"]
        for pools, generator, left in zip(self._pools, state["generators"], state["left"], strict=True):
            pools[0].generator.set_state(generator)  # one for all pools of a member
            for pool, rows in zip(pools, left, strict=True):
                pool.left = rows

    def _drawn(self, pools: Sequence[_Pool], n: int) -> Tensor:
        out = torch.empty(n, dtype=torch.int64)
        for turn, pool in enumerate(pools):
            places = out[(turn - self._n_drawn) % len(pools) :: len(pools)]
            places.copy_(pool.take(len(places)))
        return out

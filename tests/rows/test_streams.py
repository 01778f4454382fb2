"""Endless streams of rows, cut into batches."""

import torch

from skreweight._rows.streams import Streams


def drawn(streams: Streams, n_epochs: int) -> torch.Tensor:
    return torch.cat([torch.cat(list(streams), dim=-1) for _ in range(n_epochs)], dim=-1)


def test_each_row_comes_once_before_any_comes_again() -> None:
    pools = [[torch.arange(7)], [torch.arange(20, 25)]]
    rows = drawn(Streams(pools, batch_size=4, n_batches=3, seeds=[0, 1]), n_epochs=4)
    assert rows.shape == (2, 48)
    for member, (pool,) in zip(rows, pools, strict=True):
        for part in member.split(len(pool)):
            assert len(part.unique()) == len(part) and set(part.tolist()) <= set(pool.tolist())


def test_pools_take_turns_across_batches_and_epochs() -> None:
    pools = [[torch.arange(5), torch.arange(10, 12), torch.tensor([20])]]
    rows = drawn(Streams(pools, batch_size=4, n_batches=2, seeds=[3]), n_epochs=3)[0]
    assert (rows // 10).tolist() == [0, 1, 2] * 8
    for part in rows[rows < 10].split(5):
        assert len(part.unique()) == len(part)


def test_members_draw_from_their_own_seed() -> None:
    pools = [[torch.arange(9)]]
    alone = drawn(Streams(pools, 3, 2, seeds=[5]), 2)
    among = drawn(Streams(pools * 3, 3, 2, seeds=[4, 5, 4]), 2)
    assert torch.equal(alone[0], among[1])
    assert torch.equal(among[0], among[2]) and not torch.equal(among[0], among[1])

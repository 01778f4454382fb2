"""Leading axes are members: a pack's batches are those that each member has alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from skreweight._rows.batches import TensorBatches
from skreweight._rows.place import Rows
from skreweight._training.state import TrainingState
from skreweight.core.rows import take_rows

CPU = torch.device("cpu")
N, K, SEEDS = 23, 3, (5, 6, 7)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


def own_rows(n: int = 17) -> Tensor:
    return torch.stack([torch.randperm(N, generator=torch.Generator().manual_seed(k))[:n] for k in range(K)])


def rows(train: Tensor | None, validation: tuple[Any, Tensor] | None = None, x: Any = None) -> Rows:
    return Rows(
        x=torch.arange(2.0 * N).reshape(N, 2) if x is None else x,
        targets=torch.arange(N) % 4,
        train=train,
        validation=validation,
        multiplicity=None,
        class_counts=torch.ones(4),
        n_given=N,
        device=CPU,
        dtype=torch.float32,
    )


OPTIONS: dict[str, dict[str, Any]] = {
    "short last batch": {"batch_size": 5},
    "drop last": {"batch_size": 5, "drop_last": True},
    "one batch": {"batch_size": -1},
    "in order": {"batch_size": 5, "shuffle": False},
    "sampler": {"batch_size": 5, "batch_sampler": [[3, 1], [0, 2, 2]]},
}
FEATURES: dict[str, Callable[[], Any]] = {
    "table": lambda: torch.arange(2.0 * N).reshape(N, 2),
    "images": lambda: torch.arange(12.0 * N).reshape(N, 3, 2, 2),
    "mapping": lambda: {"a": torch.arange(2.0 * N).reshape(N, 2), "b": torch.arange(N)},
}


def same(pack: Any, single: Any, k: int) -> bool:
    if isinstance(pack, dict):
        return pack.keys() == single.keys() and all(same(pack[n], single[n], k) for n in pack)
    return torch.equal(pack[k], single)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("all_rows", [False, True])
def test_a_pack_of_three_equals_three_single_ones(
    options: dict[str, Any], features: Callable[[], Any], all_rows: bool
) -> None:
    train = None if all_rows else own_rows()
    together = rows(train, x=features()).batches("training", options, generators=generators())
    epochs = [list(together) for _ in range(2)]
    for k, seed in enumerate(SEEDS):
        alone = rows(None if train is None else train[k], x=features()).batches("training", options)
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # a single fit draws from torch's global generator
            for pack, single in zip(epochs, [list(alone) for _ in range(2)], strict=True):
                assert len(pack) == len(single)
                for a, b in zip(pack, single, strict=True):
                    assert torch.equal(a.rows[k], b.rows)
                    assert torch.equal(a.targets[k], b.targets)
                    assert same(a.x, b.x, k)


@pytest.mark.parametrize("own", [False, True], ids=["one set for all", "each its own"])
def test_validation_rows_of_a_pack(own: bool) -> None:
    x, targets = torch.randn(K, 6, 2), torch.arange(6) % 2
    validation = (x, targets.expand(K, -1) + torch.arange(K).unsqueeze(1)) if own else (x[0], targets)
    options = {"batch_size": 4}
    together = list(rows(None, validation).batches("validation", options, generators=generators()))
    assert [batch.rows.shape for batch in together] == [(K, 4), (K, 2)]
    for k, seed in enumerate(SEEDS):
        single = (validation[0][k], validation[1][k]) if own else validation
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            alone = list(rows(None, single).batches("validation", options))
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a.rows[k], b.rows)
            assert torch.equal(a.targets[k], b.targets)
            assert torch.equal(a.x[k], b.x)


def test_without_generators_each_member_draws_from_the_global_one() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        (batch,) = TensorBatches(torch.arange(N), torch.arange(N), own_rows(), CPU, batch_size=-1)
        torch.manual_seed(1)
        orders = [torch.randperm(17) for _ in range(K)]
    for k, order in enumerate(orders):
        assert torch.equal(batch.rows[k], own_rows()[k][order])


def test_a_pack_holds_x_once() -> None:
    x = torch.randn(N, 2)
    batches = rows(own_rows(), x=x).batches("training", {"batch_size": 5}, generators=generators())
    assert isinstance(batches, TensorBatches)
    assert batches.x is x
    assert max(batch.x.numel() for batch in batches) == K * 5 * 2


def test_a_generator_for_each_member() -> None:
    with pytest.raises(ValueError, match="got 2 for 3 members"):
        TensorBatches(torch.arange(N), torch.arange(N), own_rows(), CPU, generators=generators()[:2])


def test_members_and_loaders_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="iterator_train"):
        rows(own_rows()).batches("training", {}, loader=torch.utils.data.DataLoader)


def test_take_rows() -> None:
    x = torch.randn(N, 3, 2)
    index = torch.randint(N, (2, 3, 4))
    assert torch.equal(take_rows(x, index), x[index])
    assert torch.equal(take_rows({"a": x}, index[0, 0])["a"], x[index[0, 0]])


def test_members_generators_go_on_where_they_stood() -> None:
    state, other = (TrainingState(0, members=SEEDS) for _ in range(2))
    with state.generators(CPU) as own:
        first = [torch.randperm(N, generator=g) for g in own or []]
    other.load_state_dict(state.state_dict())
    for going_on in (state, other):
        with going_on.generators(CPU) as own:
            second = [torch.randperm(N, generator=g) for g in own or []]
        for seed, a, b in zip(SEEDS, first, second, strict=True):
            alone = torch.Generator().manual_seed(seed)
            assert torch.equal(torch.randperm(N, generator=alone), a)
            assert torch.equal(torch.randperm(N, generator=alone), b)

"""Top losses against the linear programme they solve."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from skreweight.weighting import Step, TopLoss


def weigh(losses: Tensor, keep: float, multiplicity: Tensor | None = None) -> Tensor:
    rows = torch.arange(len(losses))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    return TopLoss(keep=keep).weigh(Step(rows, rows % 2, losses, multiplicity, optimizer))


some_losses = st.lists(st.floats(0, 10, width=16), min_size=1, max_size=12)


@given(losses=some_losses, keep=st.floats(0.01, 1), counted=st.booleans())
def test_no_other_weights_give_a_larger_loss(losses: list[float], keep: float, counted: bool) -> None:
    f = torch.tensor(losses, dtype=torch.float64)
    m = torch.linspace(0.5, 2, len(f), dtype=torch.float64) if counted else torch.ones_like(f)
    w = weigh(f, keep, m if counted else None)
    limit = m.numpy() / (keep * m.sum().item())
    assert w.sum().item() == pytest.approx(1, rel=1e-12)
    assert (w.numpy() >= 0).all() and (w.numpy() <= limit * (1 + 1e-12)).all()
    best = linprog(
        -f.numpy(), A_eq=np.ones((1, len(f))), b_eq=[1], bounds=list(zip(0 * limit, limit, strict=True))
    )
    assert float(w @ f) == pytest.approx(-best.fun, rel=1e-7, abs=1e-9)


@given(losses=some_losses, keep=st.floats(0.01, 1), seed=st.integers(0, 100))
def test_equal_rows_weigh_the_same_in_whatever_order(losses: list[float], keep: float, seed: int) -> None:
    f = torch.tensor([*losses, *losses[:3]], dtype=torch.float64)
    order = torch.randperm(len(f), generator=torch.Generator().manual_seed(seed))
    w = weigh(f, keep)
    torch.testing.assert_close(weigh(f[order], keep), w[order], rtol=1e-12, atol=0)
    for k in range(min(3, len(losses))):
        assert w[k] == w[len(losses) + k]


def test_a_whole_number_of_rows_is_hard_example_mining() -> None:
    f = torch.tensor([0.3, 2.0, 0.1, 1.0, 0.5])
    assert weigh(f, 0.4).tolist() == pytest.approx([0, 0.5, 0, 0.5, 0])
    assert weigh(f, 0.5).tolist() == pytest.approx([0, 0.4, 0, 0.4, 0.2])
    assert weigh(f, 0.01).tolist() == [0, 1, 0, 0, 0]


def test_equal_losses_share() -> None:
    assert weigh(torch.ones(5), 0.2).tolist() == pytest.approx([0.2] * 5)

"""Exponentiated gradient against the formula as it is written, and its guards."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skreweight.weighting import EG, NewState, Step, get_weighting

N_ROWS = 6


def steps(weighting: EG, batches: list[tuple[list[int], list[float]]]) -> list[Tensor]:
    """The weights of some batches, which are rows and their losses."""
    weighting.start(NewState(N_ROWS, torch.tensor([3.0, 3.0], dtype=torch.float64)))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    found = []
    for rows, losses in batches:
        of_batch, f = torch.tensor(rows), torch.tensor(losses, dtype=torch.float64)
        found.append(weighting.weigh(Step(of_batch, of_batch % 2, f, None, optimizer)))
    return found


some_batches = st.lists(
    st.integers(1, N_ROWS).flatmap(
        lambda n: st.tuples(
            st.permutations(range(N_ROWS)).map(lambda rows: rows[:n]),
            st.lists(st.floats(0, 20), min_size=n, max_size=n),
        )
    ),
    min_size=1,
    max_size=6,
)


@given(
    batches=some_batches,
    eta=st.floats(-1, 1),
    decay=st.floats(1, 3),
    keep=st.booleans(),
    update=st.sampled_from(["before", "after"]),
)
def test_against_stored_weights_as_they_are(
    batches: list[tuple[list[int], list[float]]], eta: float, decay: float, keep: bool, update: str
) -> None:
    weighting = EG(eta=eta, decay=decay, keep_batch_mass=keep, update=update)
    found = steps(weighting, batches)
    w = np.ones(N_ROWS)
    for (rows, losses), ours in zip(batches, found, strict=True):
        old = w[rows]
        new = old ** (1 / decay) * np.exp(-eta * np.array(losses))
        if keep:
            new = new * old.sum() / new.sum()
        used = new if update == "before" else old
        np.testing.assert_allclose(ours, used / used.sum(), rtol=1e-9, atol=1e-300)
        w[rows] = new
    np.testing.assert_allclose(weighting.stored_weights, w / max(w.max(), 1), rtol=1e-9, atol=1e-300)
    if keep:
        assert w.sum() == pytest.approx(N_ROWS)


def test_many_visits_neither_overflow_nor_vanish() -> None:
    """exp(0.1 · 20 · 2000) is beyond float64."""
    found = steps(EG(eta=-0.1), [(list(range(N_ROWS)), [20.0, 1.0, 1.0, 1.0, 1.0, 1.0])] * 2000)
    torch.testing.assert_close(found[-1], torch.eye(N_ROWS, dtype=torch.float64)[0], rtol=0, atol=1e-12)
    found = steps(EG(eta=0.1, keep_batch_mass=False), [(list(range(N_ROWS)), [20.0] * N_ROWS)] * 2000)
    torch.testing.assert_close(found[-1], torch.full((N_ROWS,), 1 / N_ROWS, dtype=torch.float64))


def test_decay_bounds_the_spread() -> None:
    """log w ← log w/decay − η f comes to rest at −η f/(1 − 1/decay)."""
    weighting = EG(eta=-0.5, decay=2.0, keep_batch_mass=False)
    steps(weighting, [(list(range(N_ROWS)), [3.0, 1.0, 1.0, 1.0, 1.0, 1.0])] * 100)
    assert weighting.stored_weights is not None
    assert weighting.stored_weights[1].item() == pytest.approx(math.exp(-0.5 * 2 * 2))


def test_rows_that_were_never_visited_change_nothing_in_what_is_reported() -> None:
    """A member of a pack has the rows of all members in its state."""
    for eta, keep in ((0.5, False), (-0.5, True), (-0.5, False)):
        weighting = EG(eta=eta, keep_batch_mass=keep)
        steps(weighting, [([0, 1, 2], [3.0, 1.0, 2.0])] * 5)
        assert weighting.stored_weights is not None
        reported = weighting.stored_weights[:3].clone()
        weighting.state_["weights"] = weighting.state_["weights"][:3]
        assert torch.equal(weighting.stored_weights, reported)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_no_trace(bad: float) -> None:
    good = ([0, 2, 4], [0.5, 1.0, 0.7])
    undisturbed = steps(EG(), [good] * 3)
    disturbed = steps(EG(), [good, ([0, 1, 2], [0.5, bad, 0.7]), good, good])
    for w, expected in zip([disturbed[0], *disturbed[2:]], undisturbed, strict=True):
        assert torch.equal(w, expected)


@pytest.mark.parametrize("eta", [math.inf, math.nan])
def test_a_rate_that_cannot_be(eta: float) -> None:
    with pytest.raises(ValueError, match="eta must be a finite number, got"):
        get_weighting("eg", eta=eta)

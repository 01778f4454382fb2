"""TERM against its objective and the formula as it is written, and its guards."""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skreweight.weighting import NewState, Step, Term, get_weighting

COUNTS = [5.0, 3.0, 2.0]


def steps(
    weighting: Term, batches: list[list[float]], targets: list[list[int]], dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """The weights of some batches one after the other."""
    weighting.start(NewState(10, torch.tensor(COUNTS, dtype=dtype)))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    found = []
    for losses, y in zip(batches, targets, strict=True):
        f = torch.tensor(losses, dtype=dtype)
        found.append(weighting.weigh(Step(torch.arange(len(f)), torch.tensor(y), f, None, optimizer)))
    return found


def exact(
    batches: list[list[float]], targets: list[list[int]], t: float, tau: float, update: float, correct: bool
) -> list[list[float]]:
    """The formulas with 50 digits, any exponent, and plain averages divided by their bias."""
    with mpmath.workdps(50):
        share = mpmath.mpf(update)
        kept = [mpmath.mpf(0 if correct or tau == 0 else 1)] * 3  # of e^{τ f}, or of f
        n_seen, found = [0, 0, 0], []
        q = [mpmath.mpf(n) / 10 for n in COUNTS]
        for losses, y in zip(batches, targets, strict=True):
            for c in set(y):
                mine = [mpmath.mpf(f) for f, of in zip(losses, y, strict=True) if of == c]
                value = sum(mpmath.exp(tau * f) if tau else f for f in mine) / len(mine)
                kept[c] = (1 - share) * kept[c] + share * value
                n_seen[c] += 1
            average = [
                k / (1 - (1 - share) ** n) if correct and n else k for k, n in zip(kept, n_seen, strict=True)
            ]
            counting = [c for c in range(3) if n_seen[c] or not correct]
            r = {c: mpmath.log(average[c]) / tau if tau else average[c] for c in counting}
            total = sum(q[c] for c in counting)
            over = (
                mpmath.log(sum(q[c] * mpmath.exp(t * r[c]) for c in counting) / total) / t
                if t
                else sum(q[c] * r[c] for c in counting) / total
            )
            found.append([
                float(mpmath.exp(t * (r[c] - over) + tau * (f - r[c])) / len(losses))
                for f, c in zip(losses, y, strict=True)
            ])  # fmt: skip
        return found


some_batches = st.lists(
    st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 2)), min_size=1, max_size=5), min_size=1, max_size=5
)
tilt = st.one_of(st.just(0.0), st.floats(0.01, 50), st.floats(-50, -0.01))


@given(batches=some_batches, t=tilt, tau=tilt, update=st.floats(0.05, 1), correct=st.booleans())
def test_losses_of_any_size(
    batches: list[list[tuple[float, int]]], t: float, tau: float, update: float, correct: bool
) -> None:
    losses, targets = [[f for f, _ in b] for b in batches], [[c for _, c in b] for b in batches]
    found = steps(Term(t=t, tau=tau, update=update, correct_start=correct), losses, targets)
    for w, expected in zip(found, exact(losses, targets, t, tau, update, correct), strict=True):
        assert w.isfinite().all()
        # The exponents reach 1e5, of which float64 knows 1e-11.
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize(("t", "tau"), [(3.0, 0.0), (-2.0, 0.0), (10.0, -2.0), (0.0, 1.5), (2.0, 2.0)])
def test_weights_are_the_slope_of_the_objective(t: float, tau: float) -> None:
    """On all rows at once ∂R/∂f_i, by autograd of the objective as it is written; they sum to 1."""
    y = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    f = torch.rand(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    r = torch.stack(
        [(tau * f[y == c]).exp().mean().log() / tau if tau else f[y == c].mean() for c in range(3)]
    )
    q = torch.tensor(COUNTS, dtype=torch.float64) / 10
    objective = (q * (t * r).exp()).sum().log() / t if t else q @ r
    (slope,) = torch.autograd.grad(objective, f)
    (w,) = steps(Term(t=t, tau=tau, update=0.3), [f.tolist()], [y.tolist()])
    torch.testing.assert_close(w, slope, rtol=1e-12, atol=0)
    assert w.sum().item() == pytest.approx(1, rel=1e-12)


def test_float32_losses() -> None:
    batches, y = [[0.1, 500.0, 3.0], [100.0, 0.0, 2.0]], [[0, 1, 2], [0, 0, 1]]
    found = steps(Term(t=10.0), batches, y, torch.float32)
    for w, expected in zip(found, exact(batches, y, 10.0, 0.0, 0.1, True), strict=True):
        assert w.dtype == torch.float32
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_no_trace(bad: float) -> None:
    good, y = [0.5, 1.0, 0.7], [0, 1, 2]
    undisturbed = steps(Term(), [good] * 3, [y] * 3)
    disturbed = steps(Term(), [good, [0.5, bad, 0.7], good, good], [y] * 4)
    for w, expected in zip([disturbed[0], *disturbed[2:]], undisturbed, strict=True):
        assert torch.equal(w, expected)


def test_a_class_that_no_batch_had_counts_from_its_first_rows_on() -> None:
    """Started at 0 instead, it would count as one without loss."""
    batches, y = [[1.0, 2.0], [1.0, 2.0]], [[0, 1], [0, 2]]
    first, _ = steps(Term(), batches, y)
    e = np.exp([3.0, 6.0])
    np.testing.assert_allclose(first, e / (np.array([5, 3]) @ e / 8) / 2, rtol=1e-12)
    first, _ = steps(Term(update=1.0, correct_start=False), batches, y)
    np.testing.assert_allclose(first, e / (np.array([5, 3, 2]) @ [*e, 1] / 10) / 2, rtol=1e-12)


@pytest.mark.parametrize("options", [{"t": math.inf}, {"tau": math.nan}])
def test_a_tilt_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a finite number, got"):
        get_weighting("term", **options)

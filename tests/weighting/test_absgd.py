"""ABSGD against the paper's two lines in exact-enough arithmetic, and its guards."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skreweight import ReweightedClassifier
from skreweight.weighting import ABSGD, NewState, Step, get_weighting

mpmath = pytest.importorskip("mpmath", reason="the exact twin needs mpmath, which comes with torch")


def steps(weighting: ABSGD, batches: list[list[float]], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The weights of some batches one after the other."""
    weighting.start(NewState(100, torch.tensor([50.0, 50.0], dtype=dtype)))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    found = []
    for losses in batches:
        rows = torch.arange(len(losses))
        found.append(
            weighting.weigh(Step(rows, rows % 2, torch.tensor(losses, dtype=dtype), None, optimizer))
        )
    return found


def exact(
    batches: list[list[float]], lam: float, gamma: float, alpha: float, correct: bool
) -> list[list[float]]:
    """s ← (1 − γ)s + γα·mean exp(f/λ), p = exp(f/λ)/s with 60 digits and any exponent; w = p/B."""
    with mpmath.workdps(60):
        s, bias, result = mpmath.mpf(0), mpmath.mpf(1), []
        lam_, gamma_ = mpmath.mpf(lam), mpmath.mpf(gamma)
        for losses in batches:
            e = [mpmath.exp(mpmath.mpf(f) / lam_) for f in losses]
            s = (1 - gamma_) * s + gamma_ * mpmath.mpf(alpha) * sum(e) / len(e)
            bias *= 1 - gamma_
            divisor = s / (1 - bias) if correct else s
            result.append([float(x / divisor / len(e)) for x in e])
        return result


some_losses = st.lists(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=5), min_size=1, max_size=4)
a_lambda = st.one_of(st.floats(1e-3, 100), st.floats(-100, -1e-3))


@given(batches=some_losses, lam=a_lambda, gamma=st.floats(0.01, 1), correct=st.booleans())
def test_float32_losses_up_to_ten_thousand(
    batches: list[list[float]], lam: float, gamma: float, correct: bool
) -> None:
    """And λ down to a thousandth, of either sign."""
    found = steps(ABSGD(lam=lam, gamma=gamma, correct_start=correct, max_jump=None), batches)
    for w, expected in zip(found, exact(batches, lam, gamma, 1.0, correct), strict=True):
        assert w.dtype == torch.float32
        assert w.isfinite().all()
        assert (w >= 0).all()
        # 1e-37: what float32 holds without loss of digits.
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-6, atol=1e-37)


@given(
    batches=st.lists(st.lists(st.floats(0, 50), min_size=1, max_size=5), min_size=1, max_size=5),
    lam=st.floats(0.5, 10),
    gamma=st.floats(0.05, 0.95),
    alpha=st.floats(0.1, 2),
    correct=st.booleans(),
)
def test_the_guard_leaves_usual_losses_alone(
    batches: list[list[float]], lam: float, gamma: float, alpha: float, correct: bool
) -> None:
    found = steps(
        ABSGD(lam=lam, gamma=gamma, alpha=alpha, correct_start=correct), batches, dtype=torch.float64
    )
    for w, expected in zip(found, exact(batches, lam, gamma, alpha, correct), strict=True):
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("gamma", [0.1, 0.9])
@pytest.mark.parametrize("lam", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("where", [0, 3])
def test_one_absurd_loss_does_not_silence_later_batches(lam: float, gamma: float, where: int) -> None:
    """Not even as the first there is; and its own batch is given to it, as a softmax would."""
    batches = [[0.5, 1.0, 0.7, 0.2] for _ in range(60)]
    undisturbed = steps(ABSGD(lam=lam, gamma=gamma), batches)
    batches[where] = [0.5, 1e4, 0.7, 0.2]
    found = steps(ABSGD(lam=lam, gamma=gamma), batches)
    assert found[where][1] > 0.9
    sums = [float(w.sum()) for w in found]
    assert min(sums[:where], default=1.0) > 0.1
    # The batch counted ten times the average, so that the next ones weigh a tenth or more …
    assert min(sums[where + 1 :]) > 0.09
    torch.testing.assert_close(found[-1], undisturbed[-1], rtol=0.03, atol=0)
    without_guard = steps(ABSGD(lam=lam, gamma=gamma, max_jump=None), batches)
    assert float(without_guard[where + 1].sum()) < 1e-6, "what the guard is for"


@pytest.mark.parametrize("lam", [-1.0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_leaves_no_trace(lam: float, bad: float) -> None:
    batches = [[0.5, 1.0, 0.7]] * 4
    undisturbed = steps(ABSGD(lam=lam), batches)
    disturbed = steps(ABSGD(lam=lam), [*batches[:2], [0.5, bad, 0.7], *batches[2:]])
    if not (lam < 0 and bad == math.inf):  # exp(−inf) is 0: that loss weighs nothing and is one of the rows
        for w, expected in zip([*disturbed[:2], *disturbed[3:]], undisturbed, strict=True):
            torch.testing.assert_close(w, expected)


@given(
    losses=st.lists(st.floats(0, 30, width=32), min_size=1, max_size=8),
    lam=st.floats(0.1, 100),
)
def test_sums(losses: list[float], lam: float) -> None:
    """The first batch's weights sum to 1 with the start corrected, to 1/γ as the authors start."""
    (w,) = steps(ABSGD(lam=lam, gamma=0.25), [losses])
    assert float(w.sum()) == pytest.approx(1, rel=1e-5)
    (w,) = steps(ABSGD(lam=lam, gamma=0.25, correct_start=False), [losses])
    assert float(w.sum()) == pytest.approx(4, rel=1e-5)
    (w,) = steps(ABSGD(lam=lam, gamma=0.25, add_uniform=True), [losses])
    assert float(w.sum()) == pytest.approx(2, rel=1e-5)
    (w,) = steps(ABSGD(lam=math.inf), [losses])
    assert torch.equal(w, torch.full((len(losses),), 1 / len(losses)))


@pytest.mark.parametrize("lam", [0.0, math.nan])
def test_lambda_that_cannot_be(lam: float) -> None:
    with pytest.raises(ValueError, match="lam must be a number other than 0"):
        get_weighting("absgd", lam=lam)


def test_signs_of_lambda() -> None:
    (hard,) = steps(ABSGD(lam=1.0), [[0.1, 3.0]])
    (easy,) = steps(ABSGD(lam=-1.0), [[0.1, 3.0]])
    assert hard[1] > hard[0]
    assert easy[1] < easy[0]


@pytest.mark.parametrize("lam", [0.01, 1e-3])
def test_weights_that_sum_to_nothing_are_said(lam: float) -> None:
    r = np.random.RandomState(0)
    y = (r.rand(4000) < 0.1).astype(int)
    X = r.randn(4000, 5).astype(np.float32) + y[:, None]
    net = ReweightedClassifier(
        weighting="absgd", weighting__lam=lam, warmup_epochs=2, max_epochs=2, random_state=0
    )
    with pytest.warns(
        UserWarning, match=r"of the training rows had a weight of next to 0.*raise weighting__lam"
    ):
        net.fit(X, y)
    net.set_params(weighting__lam=1.0).fit(X, y)  # without a word

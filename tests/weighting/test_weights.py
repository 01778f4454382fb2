"""What weights are, whatever the losses and gradients: finite, not negative, with the sums the docs name."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.signal_products import SignalRecorder
from skreweight.core.validation_loss import ValidationLoss
from skreweight.weighting import WEIGHTINGS, Hu, NewState, Step, Weighting, get_weighting
from tests.weighting.problem import N_ROWS, Net, data, fitted, pair, parameters

PLAIN = ExampleLoss(torch.nn.CrossEntropyLoss(reduction="none"))


def normalized(raw: Tensor, kind: str, temperature: float, multiplicity: Tensor | None) -> Tensor:
    """Stored weights of a batch as the weights that are used."""
    rows = torch.arange(len(raw))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    step = Step(rows, rows % 2, torch.zeros_like(raw), multiplicity, optimizer)
    return Hu(normalization=kind, temperature=temperature).normalized(raw, step)


class OneStep:
    """A method at work on the first rows of the tiny problem."""

    def __init__(
        self,
        weighting: Weighting,
        *,
        lr: float = 0.5,
        scale: float = 1.0,
        dtype=torch.float64,
        class_weights: Tensor | None = None,
    ) -> None:
        X, y = data()
        self.X, self.y = torch.from_numpy(X).to(dtype) * scale, torch.from_numpy(y)
        torch.manual_seed(0)
        self.model = Model(Net(dtype=dtype))
        self.optimizer = torch.optim.SGD(self.model.parameters, lr=lr)
        self.recorder = SignalRecorder(self.model)
        self.weighting = weighting
        self.loss = ExampleLoss(PLAIN.criterion, class_weights)
        x_val, y_val = pair()
        self.validation = ValidationLoss(
            self.model, PLAIN, torch.from_numpy(x_val).to(dtype), torch.from_numpy(y_val)
        )
        weighting.start(NewState(N_ROWS, torch.tensor([48.0, 16.0], dtype=dtype)))

    def __call__(self, rows: Tensor) -> Tensor:
        gradients = self.recorder(self.X[rows], self.y[rows], self.loss)
        step = Step(
            rows,
            self.y[rows],
            gradients.losses.detach(),
            None,
            self.optimizer,
            gradients,
            self.validation,
            lambda: (
                self.recorder(self.X[rows], self.y[rows], self.loss),
                self.validation.value_and_gradient(self.model.parameters),
            ),
            loss=self.loss,
        )
        weights = self.weighting.weigh(step)
        for p, g in zip(self.model.parameters, gradients.weighted(weights), strict=True):
            p.grad = g
        self.optimizer.step()
        self.weighting.after_step(step)
        return weights


SETTINGS = st.fixed_dictionaries(
    {
        "initial_weight": st.sampled_from([0.0, 1e-6, 1.0, 50.0]),
        "decay": st.sampled_from([1.0, 5.0, 10.0]),
        "step_size": st.sampled_from([0.0, 1e-2, 1.0, 100.0]),
        "normalization": st.sampled_from(["linear", "softmax"]),
        "temperature": st.sampled_from([0.1, 1.0, 10.0]),
        "floor": st.sampled_from([0.0, 1e-5]),
    }
)


@settings(max_examples=15)
@given(
    name=st.sampled_from(["hu", "ours"]),
    options=SETTINGS,
    lr=st.floats(1e-3, 2),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 1000),
)
def test_stored_weights(name: str, options: dict[str, Any], lr: float, scale: float, seed: int) -> None:
    weighting = get_weighting(name, **options)
    one_step = OneStep(weighting, lr=lr, scale=scale)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(4):
        w = one_step(torch.randperm(N_ROWS, generator=generator)[:8])
        stored = weighting.stored_weights
        assert stored.isfinite().all()
        assert (stored >= min(options["floor"], options["initial_weight"])).all()
        assert w.isfinite().all()
        assert (w >= 0).all()
        total = float(w.sum())
        assert total == pytest.approx(1, rel=1e-9) or (total == 0 and options["floor"] == 0)


# Stored weights are in the test above; the others weigh plainly and work around the steps.
NOT_IN_STEPS = ("two-phase", "hu", "ours", "crt", "lws", "tau-norm", "logit-adjustment")


@settings(max_examples=50)
@given(
    name=st.sampled_from([name for name in WEIGHTINGS if name not in NOT_IN_STEPS]),
    lr=st.floats(1e-6, 2),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_weights_that_are_not_stored(
    name: str, lr: float, scale: float, seed: int, dtype: torch.dtype
) -> None:
    weighting = get_weighting(name)
    one_step = OneStep(weighting, lr=lr, scale=scale, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    for first in (True, False):
        rows = torch.randperm(N_ROWS, generator=generator)[:8]
        w = one_step(rows)
        assert w.dtype == dtype
        assert w.isfinite().all()
        assert (w >= 0).all()
        total = float(w.sum())
        if name in ("none", "top-loss", "eg", "meta-weight-net") or (name == "absgd" and first):
            assert total == pytest.approx(1, rel=1e-5)
        elif name == "ren":
            assert total == pytest.approx(1, rel=1e-5) or total == 0
        elif name == "proportion":
            c = np.array([1 / 48, 1 / 16])
            expected = (2 * c / c.sum())[one_step.y[rows]].sum() / 8
            assert total == pytest.approx(expected, rel=1e-5)
        elif name == "term":
            assert 0 < total < 8


@pytest.mark.parametrize("normalization", ["linear", "softmax"])
@pytest.mark.parametrize("name", ["hu", "ours"])
def test_the_order_of_rows_does_not_matter(name: str, normalization: str) -> None:
    """Neither within a batch, nor which place of X a row has."""
    options = {
        "weighting__normalization": normalization,
        "batch_size": -1,
        "optimizer": torch.optim.SGD,
    }
    order = np.random.RandomState(0).permutation(N_ROWS)
    straight, permuted = fitted(name, **options), fitted(name, rows=order, **options)
    np.testing.assert_allclose(permuted.example_weights_, straight.example_weights_[order], rtol=1e-8)
    for a, b in zip(parameters(straight), parameters(permuted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert straight.example_weights_.std() > 1e-3 * straight.example_weights_.mean()


@pytest.mark.parametrize("factor", [1e-2, 7.0, 1e4])
@pytest.mark.parametrize("curvature", ["ggn", "fisher", "identity"])
def test_a_common_factor_of_the_stored_weights_changes_nothing_in_a_constraint_step(
    factor: float, curvature: str
) -> None:
    """With linear normalisation: the network moves as before, the stored weights by the same factor."""
    ends = []
    for times in (1.0, factor):
        weighting = get_weighting(
            "ours", step_size=0.0, decay=1.0, floor=0.0, curvature=curvature, n_constraint_steps=3
        )
        one_step = OneStep(weighting)
        weighting.state_["weights"].copy_(times * torch.linspace(0.5, 2, N_ROWS, dtype=torch.float64))
        w = one_step(torch.arange(16))
        ends.append((w, weighting.stored_weights / times, *[p.detach() for p in one_step.model.parameters]))
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert not torch.equal(ends[0][1], torch.linspace(0.5, 2, N_ROWS, dtype=torch.float64))


def test_a_common_summand_changes_nothing_under_softmax() -> None:
    raw = torch.tensor([0.1, 3.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(
        normalized(raw + 5, "softmax", 2.0, None), normalized(raw, "softmax", 2.0, None), rtol=1e-12, atol=0
    )


class TestNormalized:
    raw = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)

    def test_linear(self) -> None:
        assert normalized(self.raw, "linear", 1.0, None).tolist() == pytest.approx([0.2, 0.0, 0.8])

    def test_softmax(self) -> None:
        expected = torch.softmax(self.raw / 3, 0)
        torch.testing.assert_close(normalized(self.raw, "softmax", 3.0, None), expected)
        large = normalized(1e6 * self.raw.float(), "softmax", 1.0, None)
        assert large.tolist() == [0.0, 0.0, 1.0]

    @pytest.mark.parametrize("total", [0.0, 1e-8])
    def test_nothing_to_divide(self, total: float) -> None:
        """As the authors' code: zeros where the sum is at most 1e-8."""
        raw = torch.tensor([total / 2, total / 2], dtype=torch.float64)
        assert normalized(raw, "linear", 1.0, None).tolist() == [0.0, 0.0]
        assert normalized(raw + 1e-8, "linear", 1.0, None).tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("name", [n for n, kind in WEIGHTINGS.items() if kind().get_params()])
def test_a_copy_knows_its_parameters(name: str) -> None:
    weighting = get_weighting(name)
    assert get_weighting(weighting).get_params() == weighting.get_params()
    assert get_weighting(type(weighting)).get_params() == weighting.get_params()
    assert get_weighting(weighting) is not weighting

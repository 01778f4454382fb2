"""``sample_weight`` counts rows: full batches of weighted rows against the same rows repeated."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.signal_products import SignalRecorder
from skreweight.core.validation_loss import ValidationLoss
from skreweight.weighting import WEIGHTINGS, NewState, Step, Weighting, get_weighting
from tests.weighting.problem import N_ROWS, Net, assert_close, data, fitted, pair

COUNTS = 1 + np.arange(N_ROWS) % 3
SGD = {"optimizer": torch.optim.SGD, "batch_size": -1}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("none", {}),
        ("proportion", {}),
        ("ren", {}),
        ("absgd", {}),
        ("absgd", {"weighting__lam": -1.0, "weighting__gamma": 0.1, "weighting__add_uniform": True}),
        ("term", {}),
        ("term", {"weighting__t": -1.0, "weighting__tau": 2.0, "weighting__correct_start": False}),
        ("top-loss", {"weighting__keep": 0.33}),
        ("eg", {"weighting__eta": -0.5}),
        ("eg", {"weighting__eta": 0.5, "weighting__update": "after", "weighting__decay": 2.0}),
        ("meta", {"weighting__beta": 0.0}),
        ("meta", {"weighting__beta": 0.0, "weighting__floor": 0.5}),
        ("meta-weight-net", {"weighting__net_lr": 0.1}),
        ("meta-weight-net", {"weighting__normalize": False, "weighting__through_loss": True}),
    ],
)
def test_weighted_rows_are_repeated_rows(name: str, options: dict[str, Any]) -> None:
    """But for effective numbers, and META with them: see `test_effective_numbers_can_keep_one_of_two_rules`."""
    weighted = fitted(name, sample_weight=COUNTS.astype(float), **SGD, **options)
    repeated = fitted(name, rows=np.arange(N_ROWS).repeat(COUNTS), **SGD, **options)
    assert_close(weighted, repeated)


@pytest.mark.parametrize(
    ("name", "options"), [("proportion", {"weighting__scheme": "effective-number"}), ("meta", {})]
)
def test_effective_numbers_can_keep_one_of_two_rules(name: str, options: dict[str, Any]) -> None:
    """A weight of 2 for every row is another scale of no weights, and it is every row twice.

    The first makes n rows of it and the second 2 n, which (1 − β)/(1 − βⁿ) tells apart as soon as classes differ in
    size: the scale of weights is what does not matter (tests/test_sample_weight.py has that for each weighting).
    """
    options = {**options, "weighting__beta": 0.9}
    plain = fitted(name, **SGD, **options)
    doubled = fitted(name, sample_weight=np.full(N_ROWS, 2.0), **SGD, **options)
    twice = fitted(name, rows=np.arange(N_ROWS).repeat(2), **SGD, **options)
    assert torch.equal(doubled.weighting_.state_["class_weights"], plain.weighting_.state_["class_weights"])
    assert not torch.allclose(
        twice.weighting_.state_["class_weights"], plain.weighting_.state_["class_weights"], rtol=1e-3
    )


@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if name != "two-phase"])
def test_a_row_of_weight_zero_is_left_out(name: str) -> None:
    weights = np.ones(N_ROWS)
    weights[::7] = 0
    kept = np.flatnonzero(weights)
    with_zeros = fitted(name, sample_weight=weights, **SGD)
    without = fitted(name, rows=kept, **SGD)
    assert_close(with_zeros, without)
    assert np.isnan(with_zeros.example_weights_[::7]).all()
    np.testing.assert_allclose(with_zeros.example_weights_[kept], without.example_weights_, rtol=1e-8)


def one_step(weighting: Weighting, rows: Tensor, counts: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the batch, stored weights and parameters after one step on the tiny problem."""
    X, y = (torch.from_numpy(part[:8]) for part in data())
    torch.manual_seed(0)
    model = Model(Net())
    loss = ExampleLoss(torch.nn.CrossEntropyLoss(reduction="none"))
    optimizer = torch.optim.SGD(model.parameters, lr=0.5)
    recorder = SignalRecorder(model)
    weighting.start(NewState(8, torch.tensor([5.0, 3.0], dtype=torch.float64)))
    x_val, y_val = (torch.from_numpy(part) for part in pair())
    gradients = recorder(X[rows], y[rows], loss)
    validation = ValidationLoss(model, loss, x_val, y_val)
    step = Step(
        rows,
        y[rows],
        gradients.losses.detach(),
        counts,
        optimizer,
        gradients,
        validation,
        lambda: (recorder(X[rows], y[rows], loss), validation.value_and_gradient(model.parameters)),
    )
    weights = weighting.weigh(step)
    for p, g in zip(model.parameters, gradients.weighted(weights), strict=True):
        p.grad = g
    optimizer.step()
    weighting.after_step(step)
    stored = weighting.state_.get("weights", torch.zeros(8))
    return weights, stored, torch.cat([p.detach().flatten() for p in model.parameters])


def test_the_virtual_step_of_meta_on_the_sum_counts_rows_as_they_are() -> None:
    """Like Hu's; the weights, which are divided by the size of the batch, are those of as many copies."""
    counts = torch.tensor([1, 2, 3, 1, 1, 2, 1, 1], dtype=torch.float64)
    repeated = torch.arange(8).repeat_interleave(counts.long())
    options = {"virtual_reduction": "sum", "conditional_step": 0.1, "bound": None}
    counted, _, _ = one_step(get_weighting("meta", **options), torch.arange(8), counts)
    of_copies, _, _ = one_step(get_weighting("meta", **options), repeated, None)
    summed = torch.zeros(8, dtype=torch.float64).index_add(0, repeated, of_copies)
    torch.testing.assert_close(len(counts) * counted, len(repeated) * summed, rtol=1e-10, atol=0)
    assert (counted / counts).unique().numel() > 2, "more than a weight for each class"


@pytest.mark.parametrize("normalization", ["linear", "softmax"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hu", {"initial_weight": 0.2, "step_size": 5.0}),
        ("hu", {"initial_weight": 0.2, "step_size": 5.0, "virtual_step": "optimizer"}),
        ("ours", {"initial_weight": 0.2, "step_size": 5.0}),
        ("ours", {"initial_weight": 0.2, "curvature": "fisher", "n_constraint_steps": 3}),
    ],
)
def test_one_step_of_counted_rows_is_one_of_repeated_rows(
    name: str, options: dict[str, Any], normalization: str
) -> None:
    """Hu's virtual step Σ w_i δ_i grows with the number of rows, so that the counts enter as they are."""
    counts = torch.tensor([1, 2, 3, 1, 1, 2, 1, 1], dtype=torch.float64)
    repeated = torch.arange(8).repeat_interleave(counts.long())
    options = {**options, "normalization": normalization}
    counted = one_step(get_weighting(name, **options), torch.arange(8), counts)
    of_copies = one_step(get_weighting(name, **options), repeated, None)
    torch.testing.assert_close(
        torch.zeros(8, dtype=torch.float64).index_add(0, repeated, of_copies[0]),
        counted[0],
        rtol=1e-10,
        atol=0,
    )
    for a, b in zip(counted[1:], of_copies[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert counted[1].std() > 1e-6

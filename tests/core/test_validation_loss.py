"""L_val, its gradient and the penalty against autograd; nothing of the module is touched."""

import pytest
import torch
from torch import Tensor

from skreweight.core.model import Model
from skreweight.core.penalties import lp_penalty, lp_penalty_gradient
from skreweight.core.validation_loss import ValidationLoss
from tests.cases import CASES, Case
from tests.core.oracles import difference, flat, gradient, random_direction

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def slow(
    model: Model, parameters: list[Tensor], case: Case, norm: float, coef: float
) -> tuple[Tensor, Tensor]:
    """L_val and its gradient with the parameters written into the module itself."""
    own = [p.detach().clone() for p in model.parameters]
    with torch.no_grad():
        for p, new in zip(model.parameters, parameters, strict=True):
            p.copy_(new)
    training = model.module.training
    model.module.eval()
    x, y = case.batch()
    outputs = model.module(**x) if isinstance(x, dict) else model.module(x)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    value = case.loss()(outputs, y).mean() + coef * sum((p.abs() ** norm).sum() for p in model.parameters)
    slope = gradient(value, model)
    with torch.no_grad():
        for p, old in zip(model.parameters, own, strict=True):
            p.copy_(old)
    model.module.train(training)
    return value.detach(), slope


@every_case
@pytest.mark.parametrize(("norm", "coef"), [(2, 0.0), (4, 0.3)])
def test_value_and_gradient_at_other_parameters(case: Case, norm: float, coef: float) -> None:
    model = case.model()
    validation = ValidationLoss(model, case.loss(), *case.batch(), lp_norm=norm, lp_coef=coef)
    before = [p.detach().clone() for p in model.parameters]
    buffers = [b.clone() for b in model.module.buffers()]
    random_state = torch.get_rng_state()
    elsewhere = [p + 0.3 * d for p, d in zip(before, random_direction(model), strict=True)]
    value, slope = validation.value_and_gradient(elsewhere)
    assert torch.allclose(validation.value(elsewhere), value, rtol=1e-13)
    assert model.module.training
    # The module is as it was: its parameters, their gradients, the buffers, the mode, the random draws.
    assert all(torch.equal(p, old) for p, old in zip(model.parameters, before, strict=True))
    assert all(p.grad is None for p in model.parameters)
    assert all(torch.equal(b, old) for b, old in zip(model.module.buffers(), buffers, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)
    expected, expected_slope = slow(model, elsewhere, case, norm, coef)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    assert difference(flat(slope), expected_slope) < 1e-11


@every_case
def test_in_parts_as_in_one(case: Case) -> None:
    model = case.model()
    parameters = [p.detach() for p in model.parameters]
    whole, parts = (
        ValidationLoss(model, case.loss(), *case.batch(), lp_norm=4, lp_coef=0.3, rows_at_once=n)
        for n in (1024, 2)
    )
    assert parts.in_parts
    assert not whole.in_parts
    value, slope = whole.value_and_gradient(parameters)
    if case in (
        CASES["batch norm without statistics"],
        CASES["rows that mix"],
    ):  # whose rows depend on who comes along
        assert parts.value(parameters).item() != pytest.approx(value.item(), rel=1e-6)
        return
    in_parts, slope_in_parts = parts.value_and_gradient(parameters)
    assert in_parts.item() == pytest.approx(value.item(), rel=1e-12)
    assert parts.value(parameters).item() == pytest.approx(value.item(), rel=1e-12)
    assert difference(flat(slope_in_parts), flat(slope)) < 1e-12


@pytest.mark.parametrize("norm", [1, 1.5, 2, 3, 4, 6, 8])
def test_penalty(norm: float) -> None:
    parameters = [
        torch.tensor([[0.5, -2.0], [0.0, 1e-3]], dtype=torch.float64),
        torch.tensor([-0.1]).double(),
    ]
    leaves = [p.clone().requires_grad_() for p in parameters]
    value = sum((p.abs() ** norm).sum() for p in leaves)
    assert lp_penalty(parameters, norm).item() == pytest.approx(value.item(), rel=1e-14)
    slopes = torch.autograd.grad(value, leaves)
    assert difference(flat(lp_penalty_gradient(parameters, norm)), flat(slopes)) < 1e-14


def test_some_rows_drawn_afresh_stand_for_all() -> None:
    case = CASES["tanh"]
    model, (x, y) = case.model(), case.batch()
    validation = ValidationLoss(model, case.loss(), x, y, batch_size=2)
    torch.manual_seed(0)
    values = []
    for _ in range(400):
        validation.draw()
        first = validation.value(model.parameters)
        assert torch.equal(first, validation.value(model.parameters)), "the same rows until the next draw"
        values.append(first)
    everything = ValidationLoss(model, case.loss(), x, y).value(model.parameters)
    drawn = torch.stack(values)
    assert len(drawn.unique()) > 10
    assert (drawn.mean() - everything).abs() < 5 * drawn.std() / 20


def test_no_more_rows_than_there_are() -> None:
    case = CASES["tanh"]
    model = case.model()
    validation = ValidationLoss(model, case.loss(), *case.batch(), batch_size=6)
    state = torch.get_rng_state()
    validation.draw()
    assert torch.equal(torch.get_rng_state(), state)

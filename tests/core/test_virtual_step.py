"""The virtual step against the optimiser itself, and ∇_w L_val against autograd through the step."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from skreweight.core.graph_products import GraphProducts
from skreweight.core.model import Model
from skreweight.core.validation_loss import ValidationLoss
from skreweight.core.virtual_step import VirtualStep, awaits_averages, optimizer_step, sgd_step
from tests.cases import CASES, Case
from tests.core import oracles
from tests.core.oracles import difference, flat
from tests.core.test_gradients import chosen_products, weights

OPTIMIZERS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "sgd": (SGD, {"lr": 0.1}),
    "weight decay": (SGD, {"lr": 0.1, "weight_decay": 0.3}),
    "momentum": (SGD, {"lr": 0.1, "momentum": 0.9}),
    "dampening": (SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    "nesterov": (SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "maximize": (SGD, {"lr": 0.1, "momentum": 0.9, "maximize": True, "weight_decay": 0.1}),
    "adam": (Adam, {"lr": 0.01, "eps": 1e-3}),
    "adam, weight decay": (Adam, {"lr": 0.01, "weight_decay": 0.3, "betas": (0.8, 0.95)}),
    "adam, maximize": (Adam, {"lr": 0.01, "weight_decay": 0.3, "maximize": True}),
    "adam, decoupled": (Adam, {"lr": 0.01, "weight_decay": 0.3, "decoupled_weight_decay": True}),
    "adamw": (AdamW, {"lr": 0.01, "weight_decay": 0.3}),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def trained(name: str, n_steps: int) -> tuple[Case, Model, Optimizer]:
    """A model and its optimiser after some steps on the mean loss."""
    case = CASES["tanh"]
    model = case.model()
    kind, options = OPTIMIZERS[name]
    # Two groups, one of them slower.
    parameters = model.parameters
    groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": options["lr"] / 2}]
    try:
        optimizer = kind(groups, **options)
    except TypeError:
        pytest.skip("this torch has no such option")
    x, y = case.batch()
    for _ in range(n_steps):
        optimizer.zero_grad()
        case.loss()(model(x), y).mean().backward()
        optimizer.step()
    return case, model, optimizer


def steps_of_the_optimizer(model: Model, optimizer: Optimizer, F: Tensor) -> Tensor:
    """δ of shape (K, B): what the optimiser really does, copied, for one row alone."""
    steps = []
    for row in F.unbind(1):
        module, other = copy.deepcopy((model.module, optimizer))
        copied = Model(module)
        before = flat(copied.parameters)
        for p, g in zip(copied.parameters, oracles.like_parameters(row, model), strict=True):
            p.grad = g.clone()
        other.step()
        steps.append(flat(copied.parameters) - before)
    return torch.stack(steps, dim=1)


def assert_is(step: VirtualStep, delta: Tensor, model: Model, bound: float = 1e-11) -> None:
    v = oracles.random_direction(model)
    moved = flat(step.moved(weights())) - flat(model.parameters)
    assert difference(moved, delta @ weights()) < bound
    assert difference(step.pull_back(v), delta.mT @ flat(v)) < bound


@every_optimizer
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_the_whole_step_of_the_running_optimizer(name: str, n_steps: int) -> None:
    case, model, optimizer = trained(name, n_steps)
    gradients = chosen_products(case, model, True)
    F = oracles.row_gradients(model, *case.batch(), case.loss())
    state = copy.deepcopy(optimizer.state_dict())
    delta = steps_of_the_optimizer(model, optimizer, F)
    assert_is(optimizer_step(gradients, optimizer), delta, model, bound=1e-9)
    for old, new in zip(state["state"].values(), optimizer.state_dict()["state"].values(), strict=True):
        assert all(
            torch.equal(torch.as_tensor(old[k]), torch.as_tensor(new[k])) for k in old if old[k] is not None
        )
    assert awaits_averages("optimizer", optimizer) == (n_steps == 0 and isinstance(optimizer, Adam | AdamW))
    assert not awaits_averages("sgd", optimizer)


@every_optimizer
def test_plain_gradient_step(name: str) -> None:
    case, model, optimizer = trained(name, 2)
    rates = torch.cat(
        [
            torch.full((p.numel(),), optimizer.param_groups[k >= 2]["lr"], dtype=torch.float64)
            for k, p in enumerate(model.parameters)
        ]
    )
    F = oracles.row_gradients(model, *case.batch(), case.loss())
    assert_is(sgd_step(chosen_products(case, model, True), optimizer), -rates.unsqueeze(1) * F, model)


def test_adam_of_early_torch() -> None:
    """θ −= lr √(1 − β₂ᵗ)/(1 − β₁ᵗ) · m/(√v + eps), as torch had it until 1.2 and the authors wrote it."""
    case, model, optimizer = trained("adam", 2)
    F = oracles.row_gradients(model, *case.batch(), case.loss())
    m, v = (
        torch.cat([optimizer.state[p][key].flatten() for p in model.parameters]).unsqueeze(1)
        for key in ("exp_avg", "exp_avg_sq")
    )
    m, v = 0.9 * m + 0.1 * F, 0.999 * v + 0.001 * F.square()
    rates = torch.tensor([0.01] * 25 + [0.005] * 18, dtype=torch.float64).unsqueeze(1)
    delta = -rates * (1 - 0.999**3) ** 0.5 / (1 - 0.9**3) * m / (v.sqrt() + 1e-3)
    gradients = chosen_products(case, model, True)
    assert_is(optimizer_step(gradients, optimizer, early_epsilon=True), delta, model)
    today = steps_of_the_optimizer(model, optimizer, F)
    assert difference(today, delta) > 1e-3, "the two formulas differ"


@pytest.mark.parametrize("kind", [RMSprop, lambda p: Adam(p, amsgrad=True)])
def test_unknown_optimizers(kind: Any) -> None:
    case = CASES["tanh"]
    model = case.model()
    with pytest.raises(ValueError, match="knows SGD, Adam and AdamW"):
        optimizer_step(chosen_products(case, model, True), kind(model.parameters))


every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_case
@pytest.mark.parametrize("coef", [0.0, 0.2])
def test_gradient_of_the_validation_loss_in_the_weights(case: Case, coef: float) -> None:
    """Hu's ∂L_val(θ̂)/∂w: the virtual step with autograd through it, for every network."""
    model = case.model()
    optimizer = SGD(model.parameters, lr=0.2)
    twin = Model(copy.deepcopy(model.module))  # the oracle's passes move the statistics of BatchNorm
    gradients = chosen_products(case, model, True)
    validation = ValidationLoss(model, case.loss(), *case.batch(), lp_norm=4, lp_coef=coef)
    step = sgd_step(gradients, optimizer)
    _, slope = validation.value_and_gradient(step.moved(weights()))
    found = step.pull_back(slope)
    F = oracles.row_gradients(twin, *case.batch(), case.loss())
    w = weights().requires_grad_()
    moved = flat(model.parameters) - 0.2 * F @ w
    x, y = case.batch()
    parts = oracles.like_parameters(moved, model)
    outputs = model.evaluation().at(parts, x)
    value = case.loss()(outputs, y).mean() + coef * moved.abs().pow(4).sum()
    (expected,) = torch.autograd.grad(value, w)
    assert difference(found, expected) < 1e-10


def test_no_gradient_is_left_behind() -> None:
    case = CASES["own parameter"]
    model = case.model()
    x, y = case.batch()
    step = sgd_step(GraphProducts(model, x, y, case.loss()), SGD(model.parameters, lr=0.1))
    assert not any(t.requires_grad for t in step.moved(weights()))
    assert not step.pull_back(oracles.random_direction(model)).requires_grad
    assert all(p.grad is None for p in model.parameters)

"""∂L_val(θ̂)/∂w from inner products between rows, against the way through the moved parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.gram import pays, weight_gradient_by_rows
from skreweight.core.model import Model
from skreweight.core.products import ProductsFinder
from skreweight.core.signal_products import SignalProducts
from skreweight.core.validation_loss import ValidationLoss
from skreweight.core.virtual_step import sgd_step
from skreweight.losses import FocalLoss
from skreweight.modules import MLP, TableNet

B, M_ROWS, F = 9, 3, 20


def plain_loss() -> ExampleLoss:
    return ExampleLoss(nn.CrossEntropyLoss(reduction="none"))


def network(n_classes: int, seed: int, bias: bool = True, dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(F, 12, bias=bias), nn.Tanh(), nn.Dropout(dropout), nn.Linear(12, 10), nn.ReLU(),
        nn.Linear(10, n_classes, bias=bias),
    ).double()  # fmt: skip


def problem(
    model: Model, n_classes: int, loss: ExampleLoss, n_validation: int = M_ROWS, lp_coef: float = 0.0
) -> tuple[SignalProducts, ValidationLoss, Tensor]:
    generator = torch.Generator().manual_seed(3)
    draw = {"generator": generator, "dtype": torch.float64}
    x, x_val = torch.randn(*model.shape, B, F, **draw), torch.randn(*model.shape, n_validation, F, **draw)
    y = torch.randint(n_classes, (*model.shape, B), generator=generator)
    y_val = torch.randint(n_classes, (*model.shape, n_validation), generator=generator)
    products = ProductsFinder(model)(x, y, loss)
    assert isinstance(products, SignalProducts)
    validation = ValidationLoss(model, plain_loss(), x_val, y_val, lp_coef=lp_coef)
    return products, validation, torch.rand(*model.shape, B, **draw)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
def test_is_the_way_through_the_moved_parameters(
    members: int, n_classes: int, bias: bool, dropout: float, weighted: bool
) -> None:
    model = Model(*[network(n_classes, k, bias, dropout) for k in range(members)])
    scale = torch.linspace(0.5, 2.0, n_classes, dtype=torch.float64).expand(*model.shape, -1)
    loss = ExampleLoss(nn.CrossEntropyLoss(reduction="none"), scale if weighted else None)
    products, validation, weights = problem(model, n_classes, loss)
    step = sgd_step(products, SGD(model.parameters, lr=0.3))
    assert pays(products, validation)
    _, slope = validation.value_and_gradient(step.moved(weights))
    expected = step.pull_back(slope)
    found = weight_gradient_by_rows(products, 0.3, weights, validation)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)
    assert float(expected.abs().max()) > 1e-4


def test_of_any_criterion() -> None:
    model = Model(network(3, 0))
    products, validation, weights = problem(model, 3, ExampleLoss(FocalLoss(2.0, reduction="none")))
    step = sgd_step(products, SGD(model.parameters, lr=0.3))
    _, slope = validation.value_and_gradient(step.moved(weights))
    found = weight_gradient_by_rows(products, 0.3, weights, validation)
    torch.testing.assert_close(found, step.pull_back(slope), rtol=1e-11, atol=1e-14)


def test_is_not_taken_where_it_is_longer_or_wrong() -> None:
    model = Model(network(2, 0))
    assert not pays(*problem(model, 2, plain_loss(), n_validation=200)[:2]), "many validation rows"
    assert not pays(*problem(model, 2, plain_loss(), lp_coef=0.1)[:2]), "a penalty on θ̂"
    table = Model(TableNet(F, 2, hidden=(12,)).double())
    assert not pays(*problem(table, 2, plain_loss())[:2]), "layers that are not linear"
    assert pays(*problem(Model(MLP(F, 2, (30, 30)).double()), 2, plain_loss())[:2])

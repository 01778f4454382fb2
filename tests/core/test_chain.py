"""Plain chains: the same outputs, signals and gradients as autograd's, and no module that is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from skreweight.core.chain import Chain
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.signal_products import SignalProducts, SignalRecorder
from skreweight.core.validation_loss import ValidationLoss
from skreweight.modules import MLP, APSNet

ACTIVATIONS = [
    nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.LeakyReLU(0.2), nn.GELU(), nn.GELU("tanh"),
    nn.SELU(), nn.ELU(0.7), nn.Mish(),
]  # fmt: skip


def network(activation: nn.Module, n_classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 6), activation, nn.Identity())
    return nn.Sequential(body, nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, n_classes)).double()


def batch(n_classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 4, generator=generator, dtype=torch.float64), torch.arange(7) % n_classes


LOSS = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_products_are_those_of_autograd(activation: nn.Module, n_classes: int) -> None:
    model = Model(network(activation, n_classes))
    x, y = batch(n_classes)
    chain = Chain.of(model)
    assert chain is not None
    recorded = chain.forward(model.parameters, x)
    assert torch.equal(recorded.outputs, model(x))
    gradients = SignalProducts.of(model, recorded, y, LOSS)
    for row, value in enumerate(LOSS(model(x), y)):
        expected = torch.autograd.grad(value, model.parameters, retain_graph=True)
        found = gradients.weighted(torch.eye(7, dtype=torch.float64)[row])
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_validation_loss_at_other_parameters() -> None:
    model = Model(network(nn.ReLU()))
    x, y = batch()
    others = [p.detach() * 1.5 for p in model.parameters]
    chained = ValidationLoss(model, LOSS, x, y, lp_coef=0.01)
    plain = ValidationLoss(model, LOSS, x, y, lp_coef=0.01)
    plain.chain = None
    assert chained.chain is not None
    value, gradient = chained.value_and_gradient(others)
    slow_value, slow_gradient = plain.value_and_gradient(others)
    torch.testing.assert_close(value, slow_value, rtol=1e-12, atol=0)
    torch.testing.assert_close(chained.value(others), slow_value, rtol=1e-12, atol=0)
    for a, b in zip(gradient, slow_gradient, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


class Doubled(MLP):
    def forward(self, X: Tensor) -> Tensor:
        return 2 * super().forward(X)


def hooked() -> nn.Module:
    module = network(nn.ReLU())
    module[1].register_forward_hook(lambda *args: None)
    return module


def frozen() -> nn.Module:
    module = network(nn.ReLU())
    module[3].bias.requires_grad_(False)
    return module


def tied() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer).double()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Doubled(4, 3),
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4), nn.Linear(4, 3)),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 3)),
        lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 3)),
        lambda: MLP(4, 3, normalized_head=True),
        hooked,
        frozen,
        tied,
    ],
    ids=["own forward", "dropout first", "norm", "function first", "cosine head", "hook", "frozen", "tied"],
)
def test_refuses_what_is_none(make) -> None:
    assert Chain.of(Model(make())) is None


def test_knows_the_networks_of_the_package_and_dropout_that_is_off() -> None:
    for module in (MLP(4, 3), MLP(4, 3, activation="tanh"), APSNet(4, 2)):
        assert Chain.of(Model(module)) is not None
    model = Model(MLP(4, 3, dropout=0.5))
    assert Chain.of(model) is not None
    assert Chain.of(model.evaluation()) is not None


def test_a_frozen_layer_goes_another_way_and_is_right() -> None:
    model = Model(frozen())
    x, y = batch()
    gradients = SignalRecorder(model)(x, y, LOSS)
    expected = torch.autograd.grad(LOSS(model(x), y).sum(), model.parameters)
    for a, b in zip(gradients.weighted(torch.ones(7, dtype=torch.float64)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)

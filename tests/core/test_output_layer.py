"""The layer that makes the logits: found by what modules compute, refused with a reason otherwise."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skreweight.core.output_layer import output_layer
from skreweight.modules import MLP, AllCNNC, NormedLinear, ResNet32
from tests.cases import Tied, TwoHeads, Words, words

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


class HeadFirst(nn.Module):
    """Registered in another order than called."""

    def __init__(self):
        super().__init__()
        self.head, self.body = nn.Linear(5, 3), nn.Linear(4, 5)

    def forward(self, X):
        return self.head(torch.relu(self.body(X)))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.weight = nn.Linear(4, 5), nn.Parameter(torch.randn(3, 5))

    def forward(self, X):
        return F.linear(self.layer(X), self.weight)


class Heads(nn.Module):
    """The mean of two."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, X):
        return self.one(X) + self.two(X)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, X):
        return self.layer(torch.tanh(self.layer(X)))


FOUND = {
    "MLP": (lambda: MLP(4, 3, (5,)), "layers.2", True),
    "linear": (lambda: nn.Linear(4, 3), "", True),
    "one logit": (lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), "0", True),
    "head registered first": (HeadFirst, "head", True),
    "dropout before": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 3)), "2", True),
    "cosines": (lambda: nn.Sequential(nn.Linear(4, 5), NormedLinear(5, 3)), "1", False),
    "tied weights": (Tied, "head", True),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), "", False),
    "first of two outputs": (TwoHeads, "head", True),
}
REFUSED = {
    "log-softmax": (lambda: nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)), "something follows '0'"),
    "no layer": (Functional, "something follows 'layer'"),
    "two heads": (Heads, r"something follows 'two' \(layers called: 'one', 'two'\)"),
    "called twice": (Twice, "'layer' is called 2 times"),
    "nothing": (nn.Identity, "was not found: none is called"),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(name):
    make, found, affine = FOUND[name]
    layer = output_layer(make().eval(), X)
    assert (layer.name, layer.is_affine) == (found, affine)
    assert layer.features.shape[0] == 2


def test_of_images_and_of_a_mapping():
    layer = output_layer(ResNet32(n_classes=10).eval(), torch.randn(2, 3, 32, 32))
    assert layer.is_affine and layer.n_outputs == 10
    x, _ = words()
    layer = output_layer(Words().double().eval(), x)
    assert (layer.name, layer.is_affine, layer.n_outputs) == ("head", True, 3)
    with pytest.raises(ValueError, match="something follows"):
        output_layer(AllCNNC(n_classes=10).eval(), torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name):
    make, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        output_layer(make().eval(), X)


def test_a_name_wins():
    module = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3), nn.LogSoftmax(1)).eval()
    layer = output_layer(module, X, "1")
    assert layer.owns("1.weight") and not layer.owns("0.weight") and not layer.is_affine
    with pytest.raises(
        ValueError, match=r"classifier='tail' is no part of the module \(there are: '0', '1', '2'\)"
    ):
        output_layer(module, X, "tail")
    with pytest.raises(ValueError, match="classifier='layer' cannot be used: 'layer' is called 2 times"):
        output_layer(Twice().eval(), X, "layer")
    assert not any(m._forward_hooks for m in module.modules())

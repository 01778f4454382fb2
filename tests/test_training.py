import pytest
import torch
from sklearn.datasets import make_blobs
from torch import nn

from skreweight import ReweightedClassifier
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.products import ProductsFinder, _hardest_rows


def fitted_network(seed):
    """Return a network and rows whose losses are about 1e-6: little is left of their gradients but rounding."""
    X, y = make_blobs(64, 8, centers=2, cluster_std=0.1, center_box=(-3, 3), random_state=seed)
    net = ReweightedClassifier(weighting="none", warmup_epochs=60, max_epochs=0, random_state=seed).fit(X, y)
    return net.module_, torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y)


@pytest.mark.parametrize("seed", range(4))
def test_fitted_rows_keep_the_fast_products(seed):
    module, x, targets = fitted_network(seed)
    loss = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))
    assert loss(module(x), targets).max() < 1e-3
    finder = ProductsFinder(Model(module))
    finder(x, targets, loss)
    assert finder.recorder is not None


def test_products_are_compared_on_the_hardest_rows():
    module, x, targets = fitted_network(0)
    targets = targets.clone()
    wrong = torch.tensor([3, 17, 40, 63])
    targets[wrong] = 1 - targets[wrong]
    loss = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))
    rows, chosen = _hardest_rows(Model(module), x, targets, loss)
    assert set(map(tuple, rows.tolist())) == set(map(tuple, x[wrong].tolist()))
    assert len(chosen) == 4

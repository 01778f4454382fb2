"""The network's own first layer scales the columns, by the training rows."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import ShuffleSplit
from torch import nn
from torch.utils.data import TensorDataset

from skreweight import ReweightedClassifier
from skreweight._net import scaling
from skreweight._pack.fit import fit_together
from skreweight.modules import MLP, RobustScaling, TableNet

SMALL = {"warmup_epochs": 2, "max_epochs": 1, "batch_size": 32, "random_state": 0}
WILD = 10.0 ** np.arange(-4, 4)


def rows(n=300):
    X, y = make_classification(n, 8, n_informative=5, weights=[0.8], class_sep=2.0, random_state=0)
    return X * WILD + 10 * WILD, y


def scaling_of(net) -> RobustScaling:
    return net.module_.layers.scaling


@pytest.mark.parametrize("weighting", ["none", "hu"])
def test_raw_columns_train_as_scaled_ones_do(weighting: str) -> None:
    X, y = rows()
    net = ReweightedClassifier(weighting=weighting, **SMALL).fit(X, y)
    held = net.validation_indices_ if weighting == "hu" else np.empty(0, dtype=int)
    train = torch.from_numpy(np.delete(X, held, 0)).float()
    scaled = RobustScaling(8).fit(train)(torch.from_numpy(X).float())
    twin = ReweightedClassifier(MLP, weighting=weighting, **SMALL).fit(scaled, y)
    np.testing.assert_allclose(net.predict_proba(X), twin.predict_proba(scaled), atol=1e-4)
    assert net.score(X, y) > 0.85


def test_scales_are_those_of_the_rows_that_train() -> None:
    X, y = rows()
    weight = np.ones(len(y))
    weight[:50] = 0
    net = ReweightedClassifier(weighting="two-phase", **SMALL).fit(X, y, sample_weight=weight)
    train = np.setdiff1d(np.arange(50, len(y)), net.validation_indices_)
    np.testing.assert_allclose(scaling_of(net).median, np.median(X[train], axis=0), rtol=1e-5)


def test_scales_that_were_learned_stay() -> None:
    X, y = rows()
    whole = MLP(8, 2, (4,), scaled=True).fit_scaling(torch.from_numpy(7 * X))
    net = ReweightedClassifier(whole, **SMALL).fit(X, y)
    np.testing.assert_allclose(scaling_of(net).median, np.median(7 * X, axis=0), rtol=1e-5)
    net = ReweightedClassifier(**SMALL).fit(X, y).partial_fit(3 * X, y)
    np.testing.assert_allclose(scaling_of(net).median, np.median(X, axis=0), rtol=1e-5)


@pytest.mark.parametrize("module", [None, TableNet])
@pytest.mark.parametrize("given", ["rows", "Dataset", "after initialize"])
def test_wherever_training_begins(module, given: str) -> None:
    X, y = rows()
    net = ReweightedClassifier(
        module, module__n_features=8, module__n_classes=2, module__hidden=(4,), **SMALL
    )
    if given == "Dataset":
        net.fit(TensorDataset(torch.from_numpy(X).float(), torch.from_numpy(y)), None)
    elif given == "rows":
        net.fit(X, y)
    else:
        net.initialize().partial_fit(X, y)
    np.testing.assert_allclose(scaling_of(net).median, np.median(X, axis=0), rtol=1e-5)


def test_of_many_rows_some_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows()
    X[:, 0] = 0.0
    X[7, 0] = 1.0  # not among those that are looked at
    monkeypatch.setattr(scaling, "MOST_BYTES", 0)
    monkeypatch.setattr(scaling, "FEWEST_ROWS", 50)
    net = ReweightedClassifier(**SMALL).fit(X, y)
    some = np.linspace(0, len(y) - 1, 50).round().astype(int)
    assert 7 not in some
    np.testing.assert_allclose(scaling_of(net).median, np.median(X[some], axis=0), rtol=1e-5)
    assert scaling_of(net).scale[0] == 1, "a column that may vary elsewhere is not silenced"


def test_a_network_of_ones_own_takes_columns_as_they_are() -> None:
    X, y = rows()
    net = ReweightedClassifier(nn.Sequential(nn.Linear(8, 2)), **SMALL).fit(X / WILD, y)
    assert [type(layer) for layer in net.module_] == [nn.Linear]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_exported_scaling_has_no_hypot_and_the_same_figures(dtype: torch.dtype) -> None:
    layer = RobustScaling(2).to(dtype)
    most = torch.finfo(dtype).max
    x = torch.tensor([[0.0, 1e-20], [0.3, -2.0], [5.0, -80.0], [1e9, -1e19], [most, -most]], dtype=dtype)
    exported = torch.export.export(layer, (x,))
    # ONNX has no such operation.
    assert "hypot" not in exported.graph_module.code
    torch.testing.assert_close(exported.module()(x), layer(x), rtol=4 * torch.finfo(dtype).eps, atol=0)


def test_without_a_graph_the_same_numbers_in_the_memory_that_is_there() -> None:
    x = torch.randn(7, 3, dtype=torch.float64)
    layer = RobustScaling(3).double().fit(x)
    before, with_graph = x.clone(), x.clone().requires_grad_()
    torch.testing.assert_close(layer(x), layer(with_graph).detach(), rtol=0, atol=0)
    assert torch.equal(x, before)
    assert torch.autograd.gradcheck(layer, with_graph)


@pytest.mark.parametrize("validation_data", [None, 0.3, ShuffleSplit(1, test_size=0.3, random_state=0)])
def test_fits_on_the_same_rows_look_at_them_once_and_keep_what_they_learn_apart(validation_data) -> None:
    X, y = rows()
    part = np.arange(250)
    makers = [
        lambda lam=lam, seed=seed: ReweightedClassifier(
            weighting="absgd",
            weighting__lam=lam,
            validation_data=validation_data,
            **{**SMALL, "random_state": seed},
        )
        for lam, seed in [(1.0, 0), (2.0, 0), (1.0, 1)]
    ]
    nets = [make() for make in makers]
    fits = fit_together(nets, X, y, [part] * len(nets))
    assert fits.errors == [None] * len(nets)
    assert sum(fits.packs) == len(nets)
    for net, make in zip(nets, makers, strict=True):
        alone = make().fit(X[part], y[part])
        np.testing.assert_array_equal(net.validation_indices_, alone.validation_indices_)
        np.testing.assert_array_equal(net.class_counts_, alone.class_counts_)
        torch.testing.assert_close(scaling_of(net).median, scaling_of(alone).median, rtol=0, atol=0)
        torch.testing.assert_close(scaling_of(net).scale, scaling_of(alone).scale, rtol=0, atol=0)
    arrays = [(n.class_counts_, scaling_of(n).median.numpy(), n.validation_indices_) for n in nets]
    for one, other in itertools.combinations(arrays, 2):
        for mine, others in zip(one, other, strict=True):
            assert mine is None or not np.shares_memory(mine, others)


def test_a_splitter_that_draws_is_asked_by_each_fit() -> None:
    X, y = rows()
    drawing = ShuffleSplit(1, test_size=0.3)
    nets = [ReweightedClassifier(weighting="none", validation_data=drawing, **SMALL) for _ in range(2)]
    assert fit_together(nets, X, y, [np.arange(250)] * 2).errors == [None, None]
    assert set(nets[0].validation_indices_) != set(nets[1].validation_indices_)

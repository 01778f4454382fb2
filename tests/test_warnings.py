"""Warnings where a training can go on, but will come to little."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_classification
from sklearn.model_selection import StratifiedKFold
from torch import nn

from skreweight import ReweightedClassifier

R = np.random.RandomState(0)
Y = (R.rand(300) < 0.1).astype(int)
X = (R.randn(300, 5) + Y[:, None]).astype(np.float32)


def classifier(weighting: str = "none", **parameters: Any) -> ReweightedClassifier:
    defaults = {"warmup_epochs": 1, "max_epochs": 1, "random_state": 0, "module__hidden": (8,)}
    return ReweightedClassifier(weighting=weighting, **{**defaults, **parameters})


class Linear(nn.Module):
    def __init__(self, n_features: int, n_classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 8), nn.ReLU(), nn.Linear(8, n_classes))
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x * self.scale)


def own(**parameters: Any) -> ReweightedClassifier:
    defaults = {"weighting": "none", "warmup_epochs": 6, "max_epochs": 1, "random_state": 0}
    return ReweightedClassifier(Linear, **{**defaults, **parameters})


def test_a_dead_network_is_said():
    with pytest.warns(UserWarning, match=r"same outputs for all of 300 training rows.*StandardScaler"):
        own(module__scale=0.0).fit(X, Y)


def test_columns_on_wild_scales_are_said():
    wild = (X * np.array([1e6, 1e-3, 1e4, 1, 1e5])).astype(np.float32)
    with pytest.warns(UserWarning, match=r"same outputs for all|Stage 1 ended with"):
        own(warmup_epochs=15, max_epochs=10, lr=1e-2).fit(wild - wild.min(0), Y)


def test_a_stage_that_learned_the_class_shares_alone_is_said():
    with pytest.warns(
        UserWarning,
        match=r"Stage 1 ended with a loss of 0\.\d+; predicting the class shares.*one of 0\.\d+, their entropy",
    ):
        own(warmup_epochs=60, lr=0.02, module__scale=1e-4).fit(X, Y)


@pytest.mark.parametrize("parameters", [{}, {"class_weight": "balanced"}, {"sampling": "balanced"}])
def test_a_network_that_learns_is_not(parameters):
    own(**parameters).fit(X, Y)
    own(warmup_epochs=60, lr=0.02, **parameters).fit(X, Y)


def test_equal_rows_have_equal_outputs():
    own(warmup_epochs=1).fit(np.ones((40, 3), dtype=np.float32), np.arange(40) % 2)


# ---------------------------------------------------------------- validation rows


@pytest.mark.parametrize("weighting", ["hu", "ours", "ren", "two-phase"])
def test_few_rows_to_learn_from_are_said(weighting):
    few = np.r_[np.flatnonzero(Y == 0), np.flatnonzero(Y == 1)[:12]]
    with pytest.warns(
        UserWarning, match=r"Class 0 has too few validation rows to learn weights from, got [1-4].*'absgd'"
    ):
        classifier(weighting).fit(X[few], Y[few])


@pytest.mark.parametrize(
    ("weighting", "parameters"), [("none", {}), ("absgd", {}), ("hu", {"validation_data": 2}), ("hu", {})]
)
def test_enough_rows_or_a_number_of_the_users_own_are_not(weighting, parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(weighting, **parameters).fit(X, Y)


def test_a_split_says_why_it_is_unbalanced():
    with pytest.warns(UserWarning, match=r"not balanced.*a split, stratified or not, is as unbalanced as y"):
        classifier("hu", validation_data=StratifiedKFold(5)).fit(X, Y)


# ---------------------------------------------------------------- the scale of weights


@pytest.mark.parametrize(
    "parameters",
    [
        {"class_weight": "effective-number"},
        {"weighting": "proportion", "weighting__scheme": "effective-number"},
        {"weighting": "meta"},
        {"sampling": "effective-number"},
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_the_scale_of_sample_weights_has_no_meaning(parameters, scale):
    weights = R.uniform(0.5, 2.0, len(Y))
    parameters = {"weighting": "none", **parameters}
    one, other = (classifier(**parameters).fit(X, Y, sample_weight=w) for w in (weights, scale * weights))
    np.testing.assert_allclose(one.class_counts_, other.class_counts_, rtol=1e-12)
    np.testing.assert_allclose(one.class_counts_.sum(), np.isfinite(one.example_weights_).sum(), rtol=1e-12)
    np.testing.assert_allclose(one.predict_proba(X), other.predict_proba(X), rtol=1e-3)


HEALTHY = {
    "iris": lambda: load_iris(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
    "digits": lambda: load_digits(return_X_y=True),
    "30 rows": lambda: make_classification(
        30, 5, n_informative=3, n_redundant=0, weights=[0.7], random_state=0
    ),
    "100 rows": lambda: make_classification(100, 8, n_informative=4, weights=[0.85], random_state=1),
}


@pytest.mark.parametrize("data", HEALTHY)
@pytest.mark.parametrize("weighting", ["proportion", "none", "absgd"])
def test_small_healthy_data_as_they_come_warn_of_nothing(data, weighting):
    X, y = HEALTHY[data]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = ReweightedClassifier(weighting=weighting, random_state=0).fit(X, y)
    assert net.score(X, y) > 0.8


@pytest.mark.parametrize("data", ["iris", "wine", "breast cancer", "digits"])
@pytest.mark.parametrize("weighting", ["hu", "ours"])
def test_nor_do_methods_that_learn_from_validation_rows(data, weighting):
    X, y = HEALTHY[data]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ReweightedClassifier(weighting=weighting, warmup_epochs=15, max_epochs=2, random_state=0).fit(X, y)

"""Arrays of integers: they reach a module that looks them up as integers, every other as float32."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import Tensor, nn

from skreweight import ReweightedClassifier
from skreweight.model_selection import PackedGridSearchCV

R = np.random.default_rng(0)
X, X_VAL = R.integers(0, 9, (120, 6)), R.integers(0, 9, (20, 6))
Y, Y_VAL = ((rows == 3).any(axis=1).astype(int) for rows in (X, X_VAL))


class Words(nn.Module):
    """Takes integers alone."""

    def __init__(self, n_classes: int, padding: int | None = None) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4, padding_idx=padding), nn.Linear(4, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x).mean(1))


class Mixed(nn.Module):
    """One column is a word; takes floats, and would not take integers."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(6, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([self.words(x[:, 0].long()), x[:, 1:3]], dim=1))


class Numbers(nn.Module):
    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def classifier(module: Any = Words, weighting: str = "none", **parameters: Any) -> ReweightedClassifier:
    defaults = {"warmup_epochs": 1, "max_epochs": 1, "batch_size": 40, "random_state": 0, "device": "cpu"}
    return ReweightedClassifier(module, weighting=weighting, **{**defaults, **parameters})


@pytest.mark.parametrize("weighting", ["none", "hu", "ours", "meta-weight-net", "lws"])
def test_an_array_is_what_a_tensor_of_integers_is(weighting):
    clf = classifier(weighting=weighting, validation_data=3).fit(X, Y)
    other = classifier(weighting=weighting, validation_data=3).fit(torch.from_numpy(X), Y)
    assert np.array_equal(clf.predict_proba(X), other.predict_proba(torch.from_numpy(X)))
    assert clf.n_features_in_ == 6


FORMS: dict[str, Callable[[], Any]] = {
    "short": lambda: X.astype(np.int8),
    "unsigned": lambda: X.astype(np.uint16),
    "other byte order": lambda: X.astype(">i4"),
    "Fortran order": lambda: np.asfortranarray(X),
    "frame": lambda: pd.DataFrame(X, columns=list("abcdef")),
    "list": lambda: X.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_integers(form):
    rows = FORMS[form]()
    clf = classifier().fit(rows, Y)
    proba = classifier().fit(X, Y).predict_proba(X)
    assert np.array_equal(clf.predict_proba(rows), proba)
    assert np.array_equal(clf.partial_fit(rows, Y).predict(rows), clf.predict(rows))


@pytest.mark.parametrize("module", [Mixed, Numbers])
def test_a_module_that_takes_numbers_is_given_numbers(module):
    clf = classifier(module, "hu", validation_data=3).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)
    floats = X.astype(np.float32)
    other = classifier(module, "hu", validation_data=3).fit(floats, Y, X_val=X_VAL.astype(float), y_val=Y_VAL)
    assert np.array_equal(clf.predict_proba(X), other.predict_proba(floats))


def test_an_object_and_its_mode():
    module = Words(2).train()
    clf = classifier(module).fit(X, Y)
    assert module.training
    clf.module_.train()
    assert next(clf.forward_iter(X, training=True)).requires_grad
    assert clf.module_.training


def test_given_validation_rows():
    clf = classifier(weighting="ours").fit(X, Y, X_val=X_VAL.astype(np.int16), y_val=Y_VAL)
    assert "valid_loss" in clf.history_[-1]
    with pytest.raises(ValueError, match=r"X_val must hold integers as X does.*got torch.float64"):
        classifier(weighting="ours").fit(X, Y, X_val=X_VAL + 0.5, y_val=Y_VAL)


def test_numbers_are_refused_in_prediction_with_the_cause():
    clf = classifier().fit(X, Y)
    with pytest.raises(ValueError, match=r"cannot take a batch of X, got shape \(2, 6\) of torch.float32"):
        clf.predict(X + 0.5)


def test_numbers_that_are_too_large_are_said():
    with pytest.raises(
        ValueError, match=r"got shape .* of torch.int64: index out of.*An Embedding has rows for 0 to"
    ):
        classifier().fit(X + 1, Y)
    with pytest.raises(
        ValueError, match=r"cannot take a batch of X, got shape \(2, 6\) of torch.int64: index out of"
    ):
        classifier().fit(X, Y).predict(X + 5)


def test_a_checkpoint_goes_on_with_them(tmp_path: Path) -> None:
    path = tmp_path / "fit.pt"
    whole = classifier(max_epochs=3, checkpoint=path).fit(X, Y)
    again = classifier(max_epochs=3, checkpoint=path).fit(X, Y)
    assert np.array_equal(whole.predict_proba(X), again.predict_proba(X))
    with pytest.raises(ValueError, match=r"differs in.*X"):
        classifier(max_epochs=3, checkpoint=path).fit((X + 1) % 9, Y)


@pytest.mark.parametrize("padding", [None, 0])
def test_a_packed_search_is_the_plain_one(padding):
    clf = classifier(weighting="absgd", module__padding=padding)
    grid = {"lr": [1e-1, 1e-3]}
    packed, plain = (search(clf, grid, cv=2).fit(X, Y) for search in (PackedGridSearchCV, GridSearchCV))
    assert np.array_equal(packed.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"])
    np.testing.assert_allclose(packed.predict_proba(X), plain.predict_proba(X), atol=1e-6)

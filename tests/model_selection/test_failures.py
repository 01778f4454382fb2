"""What fails, fails alone and as in scikit-learn's own search; what cannot be packed is fitted the plain way."""

from __future__ import annotations

import warnings
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import EpochTimer
from torch import nn

from skreweight import ReweightedClassifier
from skreweight.model_selection import PackedGridSearchCV
from skreweight.modules import MLP

X, Y = make_classification(120, 5, n_informative=4, n_redundant=0, weights=[0.75], random_state=0)


class Double(MLP):
    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__(n_features, n_classes, hidden=(4,))
        self.double()


class AsksForValues(nn.Module):
    """A branch on a value, which `torch.func.vmap` refuses."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_features, n_classes).double()

    def forward(self, X: Any) -> Any:
        outputs = self.layer(X)
        return outputs if float(outputs.detach().abs().max()) > 0 else -outputs


class FailsOnRequest(TransformerMixin, BaseEstimator):
    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def fit(self, X: Any, y: Any = None) -> Any:
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        if self.fails:
            raise ZeroDivisionError("on request")
        return X


def classifier(**options: Any) -> ReweightedClassifier:
    own = {
        "module": Double,
        "weighting": "absgd",
        "warmup_epochs": 1,
        "max_epochs": 2,
        "random_state": 0,
        **options,
    }
    return ReweightedClassifier(**own)


def both(estimator: Any, grid: Any, **options: Any) -> list[Any]:
    found = []
    for search in (PackedGridSearchCV, GridSearchCV):
        own = {k: v for k, v in options.items() if k != "verbose" or search is PackedGridSearchCV}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(search(estimator, grid, cv=2, scoring="neg_log_loss", **own).fit(X, Y))
        found[-1].failed_ = [str(w.message) for w in caught if w.category is FitFailedWarning]
    packed, plain = found
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(packed.cv_results_[name], plain.cv_results_[name], rtol=1e-9)
    return found


def test_a_candidate_that_diverges_fails_alone(capsys: Any) -> None:
    """In a pack with the others: the step of rate 900, with decay, makes every parameter grow a thousandfold."""
    grid = {"lr": [0.01, 900.0, 0.02], "weighting__lam": [0.5, 2.0]}
    net = classifier(warmup_epochs=3, batch_size=2, optimizer=torch.optim.SGD, optimizer__weight_decay=10.0)
    packed, plain = both(net, grid, error_score=-7.0, verbose=1)
    assert (packed.cv_results_["mean_test_score"] == -7.0).tolist() == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]
    for search in (packed, plain):
        assert "4 fits failed out of a total of 12" in search.failed_[0]
        assert "Training stopped in epoch" in search.failed_[0]
    assert "8 of 12 fits were trained in packs" in capsys.readouterr().out


def test_it_is_raised_where_that_is_asked_for() -> None:
    search = PackedGridSearchCV(classifier(), {"lr": [0.01, 1e200]}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="Training stopped in epoch"):
        search.fit(X, Y)


def test_what_cannot_begin() -> None:
    packed, plain = both(classifier(), {"weighting__gamma": [0.5, 7.0, 0.9]})
    assert np.isnan(packed.cv_results_["mean_test_score"]).tolist() == [False, True, False]
    assert "The 'gamma' parameter of ABSGD" in packed.failed_[0]
    assert "The 'gamma' parameter of ABSGD" in plain.failed_[0]


def test_a_step_before_that_fails(capsys: Any) -> None:
    pipe = make_pipeline(FailsOnRequest(), classifier())
    grid = {"failsonrequest__fails": [True, False], "reweightedclassifier__weighting__lam": [0.5, 2.0]}
    packed, _ = both(pipe, grid, verbose=1)
    assert np.isnan(packed.cv_results_["mean_test_score"]).tolist() == [True, True, False, False]
    assert "ZeroDivisionError: on request" in packed.failed_[0]
    printed = capsys.readouterr().out
    assert "4 of 8 fits were trained in packs" in printed
    assert "4 fitted one by one: what comes before its last step failed." in printed


def test_a_parameter_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="weighting__lamb"):
        PackedGridSearchCV(classifier(), {"weighting__lamb": [0.5]}, cv=2).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"callbacks": [("timer", EpochTimer())]}, "callbacks watch it"),
        ({"on_nonfinite": "skip"}, "on_nonfinite='skip'"),
        ({"module": AsksForValues}, "its pack failed (RuntimeError"),
    ],
)
def test_what_cannot_be_packed(options: dict[str, Any], reason: str, capsys: Any) -> None:
    both(classifier(**options), {"weighting__lam": [0.5, 2.0]}, verbose=1)
    printed = capsys.readouterr().out
    assert "0 of 4 fits were trained in packs" in printed
    assert f"4 fitted one by one: {reason}" in printed


def test_other_estimators() -> None:
    """And joblib is left as it was, in the refit and afterwards."""
    seen = []

    class Asks(LogisticRegression):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            seen.append(type(joblib.parallel.get_active_backend()[0]).__name__)
            return super().fit(X, y, sample_weight)

    with joblib.parallel_config("threading", n_jobs=1):
        both(Asks(), {"C": [0.1, 1.0]})
        after = type(joblib.parallel.get_active_backend()[0]).__name__
    assert after == "ThreadingBackend"
    assert "CollectingBackend" not in seen


def test_joblib_is_left_as_it_was_after_an_error() -> None:
    before = joblib.parallel.get_active_backend()
    with pytest.raises(ValueError, match="no such"):
        PackedGridSearchCV(classifier(), {"lr": [0.1]}, cv=2, scoring="no such").fit(X, Y)
    after = joblib.parallel.get_active_backend()
    assert type(after[0]) is type(before[0])
    assert after[1] == before[1]


def test_ctrl_c_stops_the_search(monkeypatch: Any) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = torch.get_rng_state()
    monkeypatch.setattr("skreweight._pack.listener.MembersListener.epoch_ends", stop)
    with pytest.raises(KeyboardInterrupt):
        PackedGridSearchCV(classifier(), {"lr": [0.1, 0.2]}, cv=2).fit(X, Y)
    assert torch.equal(torch.get_rng_state(), before)


def test_max_pack_size_is_checked() -> None:
    with pytest.raises(ValueError, match="max_pack_size"):
        PackedGridSearchCV(classifier(), {"lr": [0.1]}, max_pack_size=0).fit(X, Y)

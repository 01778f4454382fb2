"""What fails, fails alone and as in scikit-learn's own search; what cannot be packed is fitted the plain way."""

from __future__ import annotations

import re
import time
import warnings
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import EpochTimer
from torch import nn

from skreweight import ReweightedClassifier
from skreweight._pack.pack import Pack
from skreweight.model_selection import PackedGridSearchCV
from skreweight.model_selection._progress import Progress
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
    """With one message; what was fitted before stands, and so does torch's generator."""
    heard = []

    def stop(self: Any, *_: Any) -> bool:
        heard.append(self)
        self._on_epoch(4)
        if len(heard) == 2:
            raise KeyboardInterrupt
        return False

    search = PackedGridSearchCV(classifier(), {"lr": [0.1, 0.2]}, cv=2).fit(X, Y)
    found = search.cv_results_
    before = torch.get_rng_state()
    monkeypatch.setattr("skreweight._pack.listener.MembersListener.epoch_ends", stop)
    with pytest.raises(KeyboardInterrupt, match="67% of its epochs behind; none of it is kept"):
        search.fit(X, Y)
    assert torch.equal(torch.get_rng_state(), before)
    assert search.cv_results_ is found
    new = clone(search)
    heard.clear()
    with pytest.raises(KeyboardInterrupt):
        new.fit(X, Y)
    with pytest.raises(NotFittedError):
        new.predict(X)


# ---------------------------------------------------------------- packs that fail


def test_a_mistake_of_our_own_is_raised(monkeypatch: Any) -> None:
    monkeypatch.setattr("skreweight._pack.pack.Pack._losses", None)  # which is unpacked
    with pytest.raises(TypeError, match="cannot unpack"):
        PackedGridSearchCV(classifier(), {"lr": [0.1, 0.2]}, cv=2).fit(X, Y)


class RefusesMany(Double):
    """The user's own code fails with several networks at once, in whatever way."""

    def forward(self, X: Any) -> Any:
        if torch._C._functorch.maybe_get_level(X) >= 0:
            raise TypeError("one at a time")
        return super().forward(X)


def test_a_mistake_of_the_users_is_said() -> None:
    search = PackedGridSearchCV(classifier(module=RefusesMany), {"lr": [0.1, 0.2]}, cv=2)
    with pytest.warns(
        RuntimeWarning, match="4 networks could not be trained together .* TypeError: one at a time"
    ):
        search.fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "python", "cpu"],
)
@pytest.mark.parametrize("largest", [3, 1])
def test_packs_are_halved_where_memory_is_short(
    error: Any, largest: int, monkeypatch: Any, capsys: Any
) -> None:
    real = Pack.repeated

    def hungry(self: Any, members: Any, start: Any) -> Any:
        if len(members) > largest:
            raise error
        return real(self, members, start)

    monkeypatch.setattr(Pack, "repeated", hungry)
    grid = {"weighting__lam": [0.5, 1.0, 2.0], "random_state": [0, 1]}
    search = PackedGridSearchCV(classifier(), grid, cv=2, verbose=1, scoring="neg_log_loss")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(X, Y)
    assert [str(w.message) for w in caught if w.category is RuntimeWarning] == [
        f"A pack ran out of memory: 12 networks are trained anew, at most {n} at once."
        for n in (6, 3, 2, 1)
        if n >= 3 or largest < 3
    ]
    assert f"of up to {largest} networks" in capsys.readouterr().out or largest == 1
    plain = GridSearchCV(classifier(), grid, cv=2, scoring="neg_log_loss").fit(X, Y)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"], rtol=1e-9
    )


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize("scoring", ["neg_log_loss", ["accuracy", "neg_log_loss"]])
@pytest.mark.parametrize("train", [False, True])
def test_what_is_printed_is_what_scikit_learn_prints(scoring: Any, train: bool, capsys: Any) -> None:
    """But for the times, which are those of the fits, not of stand-ins."""
    options = {"cv": 2, "scoring": scoring, "refit": False, "verbose": 3, "return_train_score": train}
    printed = []
    for kind in (GridSearchCV, PackedGridSearchCV):
        kind(classifier(), {"weighting__lam": [0.5, 2.0], "lr": [0.01]}, **options).fit(X, Y)
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[CV")]
        printed.append(sorted(re.sub(r"\.{4,}| total time=.*", "", line) for line in lines))
    assert len(printed[0]) == 4
    assert printed[0] == printed[1]


def test_times_are_shares_of_what_was_done(monkeypatch: Any) -> None:
    real = Pack.train

    def slow(self: Any, *args: Any) -> None:
        time.sleep(0.6 if type(self.members[0].net.weighting_).__name__ == "ABSGD" else 0.0)
        real(self, *args)

    monkeypatch.setattr(Pack, "train", slow)
    begin = time.perf_counter()
    grid = {"weighting": ["none", "absgd"], "random_state": [0, 1, 2]}
    search = PackedGridSearchCV(classifier(), grid, cv=2, refit=False).fit(X, Y)
    seconds = time.perf_counter() - begin
    times = search.cv_results_["mean_fit_time"]
    assert 0 < 2 * times.sum() < seconds
    assert times[search.cv_results_["param_weighting"] == "absgd"].min() > 0.1


def test_the_bar_ends_where_the_epochs_end(capsys: Any) -> None:
    with Progress([3, 5], shown=True) as progress:
        progress.advance(2)
        progress.advance(7)  # trained anew: memory was short
        progress.finish([0])
        assert progress._n_behind == 3
        progress.finish([1])
        assert progress._n_behind == 8
    assert "8/8" in capsys.readouterr().err


def test_max_pack_size_is_checked() -> None:
    with pytest.raises(ValueError, match="max_pack_size"):
        PackedGridSearchCV(classifier(), {"lr": [0.1]}, max_pack_size=0).fit(X, Y)

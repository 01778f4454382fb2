"""A packed search finds what scikit-learn's own search over the same candidates finds."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_sampling_pipeline
from joblib import parallel_config
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    RandomizedSearchCV,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from skreweight import ReweightedClassifier
from skreweight.model_selection import PackedGridSearchCV, PackedRandomizedSearchCV, _run
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS

FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)
NUMBERS: dict[str, list[Any]] = {
    "proportion": [0.9, 0.99],
    "two-phase": [0.0, 1e-2],
    "ren": [0.0, 1e-2],
    "hu": [5.0, 10.0],
    "ours": [5.0, 10.0],
    "absgd": [0.5, 2.0],
}
NAMES = {
    "proportion": "beta",
    "two-phase": "lp_coef",
    "ren": "lp_coef",
    "hu": "decay",
    "ours": "decay",
    "absgd": "lam",
}

#: Numbers of weightings that members set each for itself, beside those above.
MORE_NUMBERS: dict[str, tuple[str, list[Any]]] = {
    "term": ("t", [1.0, 3.0]),
    "top-loss": ("keep", [0.2, 0.5]),
    "eg": ("eta", [-0.1, -0.5]),
    "meta": ("conditional_step", [0.5, 1.0]),
    "meta-weight-net": ("net_lr", [0.01, 0.05]),
    "lws": ("lr", [0.01, 0.1]),
    "tau-norm": ("tau", [0.5, 1.0]),
    "logit-adjustment": ("tau", [0.5, 1.0]),
}


class Double(MLP):
    """In float64, where rounding stays rounding."""

    def __init__(self, n_features: int, n_classes: int, hidden: Any = (5,), activation: str = "tanh") -> None:
        super().__init__(n_features, n_classes, hidden=hidden, activation=activation)
        self.double()


def data(n_classes: int = 2, n_rows: int = 151) -> tuple[Any, Any]:
    """A number of rows that gives folds of two sizes."""
    X, codes = make_classification(
        n_rows, 6, n_informative=4, n_redundant=0, n_classes=n_classes, n_clusters_per_class=1,
        weights=[0.6, *[0.4 / (n_classes - 1)] * (n_classes - 1)], random_state=0,
    )  # fmt: skip
    return X, np.array(["a", "b", "c"])[codes]


def classifier(weighting: Any = "absgd", **options: Any) -> ReweightedClassifier:
    own = {
        "module": Double,
        "warmup_epochs": 2,
        "max_epochs": 2,
        "batch_size": 32,
        "random_state": 3,
        **options,
    }
    return ReweightedClassifier(weighting=weighting, **own)


def both(
    estimator: Any, grid: Any, *given: Any, search: Any = None, fit: Any = None, **options: Any
) -> tuple[Any, Any]:
    """The same search, packed and plain."""
    packed, plain = search or (PackedGridSearchCV, GridSearchCV)
    settings = {"cv": FOLDS, "scoring": "neg_log_loss", "error_score": "raise", **options}
    X, y = given or data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = packed(clone(estimator), grid, **settings).fit(X, y, **(fit or {}))
        settings.pop("max_pack_size", None)
        theirs = plain(clone(estimator), grid, **{**settings, "n_jobs": None, "verbose": 0}).fit(
            X, y, **(fit or {})
        )
    return ours, theirs


def assert_same(ours: Any, theirs: Any, bound: float = 1e-9) -> None:
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for name, values in theirs.cv_results_.items():
        if name.endswith("_time"):
            assert (ours.cv_results_[name] >= 0).all()
        elif name.startswith("rank_"):  # what ties but for rounding may be ranked either way
            of = name.removeprefix("rank_")
            ranked = theirs.cv_results_[f"mean_{of}"][np.argsort(ours.cv_results_[name], kind="stable")]
            assert (np.diff(ranked) <= bound).all(), name
        elif "score" in name:
            np.testing.assert_allclose(ours.cv_results_[name], values, rtol=bound, atol=bound, err_msg=name)
        elif name == "params" or name.startswith("param_"):
            assert list(map(str, ours.cv_results_[name])) == list(map(str, values))
    assert ours.n_splits_ == theirs.n_splits_
    assert ours.multimetric_ == theirs.multimetric_
    for name in ("best_index_", "best_params_", "best_score_"):
        assert hasattr(ours, name) == hasattr(theirs, name)
    if hasattr(theirs, "best_score_"):
        assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=bound)


def says(printed: str, n_packed: int, n_all: int) -> bool:
    return f"{n_packed} of {n_all} fits were trained in packs (" in printed


# ---------------------------------------------------------------- every weighting


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_weighting(weighting: str, n_classes: int, capsys: Any) -> None:
    grid = (
        {f"weighting__{NAMES[weighting]}": NUMBERS[weighting]}
        if weighting in NAMES
        else {"random_state": [1, 2]}
    )
    ours, theirs = both(classifier(weighting, validation_data=4), grid, *data(n_classes), verbose=1)
    assert_same(ours, theirs)
    assert says(capsys.readouterr().out, 6, 6)
    X, _ = data(n_classes)
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_in_a_pipeline(weighting: str, capsys: Any) -> None:
    pipe = make_pipeline(StandardScaler(), PCA(), classifier(weighting, validation_data=4))
    name = f"reweightedclassifier__weighting__{NAMES.get(weighting, '')}"
    grid = {"pca__n_components": [3, 4], "reweightedclassifier__random_state": [0, 1]}
    if weighting in NAMES:
        grid[name] = NUMBERS[weighting]
    ours, theirs = both(pipe, grid, verbose=1)
    assert_same(ours, theirs)
    n_all = 3 * len(theirs.cv_results_["params"])
    assert says(capsys.readouterr().out, n_all, n_all)
    np.testing.assert_array_equal(ours.predict(data()[0]), theirs.predict(data()[0]))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("weighting", MORE_NUMBERS)
def test_numbers_of_more_weightings(weighting: str, n_classes: int, capsys: Any) -> None:
    """In one pack or in several: never the plain way."""
    name, values = MORE_NUMBERS[weighting]
    grid = {f"weighting__{name}": values, "random_state": [1, 2]}
    ours, theirs = both(classifier(weighting, validation_data=4), grid, *data(n_classes), cv=2, verbose=1)
    assert_same(ours, theirs)
    assert "one by one" not in capsys.readouterr().out.replace("left over", "")


def test_several_methods_in_one_grid(capsys: Any) -> None:
    grid = [
        {"weighting": ["absgd"], "weighting__lam": [0.5, 2.0], "lr": [0.01, 0.05]},
        {"weighting": ["hu", "ours"], "weighting__step_size": [0.5, 1.0], "lr": [0.01, 0.05]},
        {"weighting": ["none"]},
    ]
    ours, theirs = both(classifier(validation_data=4), grid, verbose=1)
    assert_same(ours, theirs)
    assert says(capsys.readouterr().out, 38, 39)  # "none" on the one fold of its size


# ---------------------------------------------------------------- what may differ within a pack


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.NAdam],
)
@pytest.mark.parametrize("weighting", ["absgd", "hu"])
def test_rates_and_decays(optimizer: Any, weighting: str, capsys: Any) -> None:
    grid = {"lr": [0.002, 0.01, 0.02], "optimizer__weight_decay": [0.0, 0.1]}
    ours, theirs = both(classifier(weighting, optimizer=optimizer), grid, verbose=1, cv=2)
    assert_same(ours, theirs)
    out = capsys.readouterr().out
    assert says(out, 12, 12) == (weighting == "absgd")
    assert ("left over, or no other agrees with it in stage 2" in out) == (weighting == "hu")


@pytest.mark.parametrize(
    "grid",
    [
        {"module__hidden": [(4,), (3, 3)], "module__activation": ["relu", "tanh"]},
        {"batch_size": [16, 32, -1], "max_epochs": [1, 2], "keep_best": ["epoch", "step", False]},
        {"class_weight": [None, "balanced"], "defer_class_weight": [True, False], "weighting": ["absgd", "hu"]},
        {"warmup_epochs": [0, 1], "restart_stage_two": [True, False], "validation_data": [3, 5]},
        {"random_state": list(range(4)), "optimizer": [torch.optim.SGD, torch.optim.Adam]},
        {"batch_size": list(np.array([16, 32])), "lr": list(np.array([0.01, 0.02]))},
    ],
)  # fmt: skip
def test_other_parameters(grid: dict[str, Any]) -> None:
    assert_same(*both(classifier(), grid, cv=2))


def test_stage_one_is_trained_once_for_settings_of_stage_two(capsys: Any) -> None:
    grid = {"max_epochs": [1, 2], "keep_best": ["epoch", False], "weighting": ["absgd", "none"]}
    ours, theirs = both(classifier(), grid, cv=2, verbose=1)
    assert_same(ours, theirs)
    assert "14 shared another one's stage 1" in capsys.readouterr().out


@pytest.mark.parametrize("max_pack_size", [1, 2, 100])
def test_packs_of_limited_size(max_pack_size: int, capsys: Any) -> None:
    ours, theirs = both(
        classifier(), {"weighting__lam": [0.5, 1.0, 2.0]}, max_pack_size=max_pack_size, verbose=1
    )
    assert_same(ours, theirs)
    printed = capsys.readouterr().out
    assert ("left over" in printed) == (max_pack_size < 3)
    assert max_pack_size == 1 or f"of up to {min(max_pack_size, 6)} networks" in printed


@pytest.mark.parametrize(("max_pack_size", "sizes"), [(3, [2, 3, 3, 2, 3, 3]), (8, [8, 8]), (16, [16])])
def test_packs_of_a_given_size_are_the_same_in_two_processes(
    max_pack_size: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit: in float32 packs of another size round in other ways."""
    X, y = data()
    grid = {"weighting__lam": [0.5, 1.0, 2.0, 5.0], "lr": [0.01, 0.1]}
    cut, found = _run._cut, []

    def spied(*args: Any) -> Any:
        parts = cut(*args)
        found.append([len(part) for part in parts])
        return parts

    monkeypatch.setattr(_run, "_cut", spied)
    one, two = (
        PackedGridSearchCV(
            classifier(module=None), grid, cv=2, scoring="neg_log_loss", n_jobs=n, max_pack_size=max_pack_size
        ).fit(X.astype(np.float32), y)
        for n in (1, 2)
    )
    assert found == [sizes, sizes]
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(one.cv_results_["std_test_score"], two.cv_results_["std_test_score"])


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("scoring", [None, "accuracy", "balanced_accuracy", "roc_auc", "average_precision"])
@pytest.mark.parametrize("prepare", [False, True], ids=["alone", "pipeline"])
def test_scorers(scoring: Any, prepare: bool) -> None:
    X, y = data()
    y = (y == "b").astype(int)
    estimator = make_pipeline(StandardScaler(), classifier()) if prepare else classifier()
    name = "reweightedclassifier__weighting__lam" if prepare else "weighting__lam"
    ours, theirs = both(estimator, {name: [0.5, 2.0]}, X, y, scoring=scoring, return_train_score=True)
    assert_same(ours, theirs)
    assert ours.score(X, y) == theirs.score(X, y)


def own_scorer(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    """Looks into the estimator and at the rows."""
    net = estimator[-1]
    return {"hits": estimator.score(X, y), "spread": float(X.std()), "epochs": len(net.history_) + net.lr}


@pytest.mark.parametrize(
    ("scoring", "refit"),
    [
        (["accuracy", "neg_log_loss", "balanced_accuracy"], "neg_log_loss"),
        ({"one": "accuracy", "two": make_scorer(balanced_accuracy_score, adjusted=True)}, False),
        ({"own": lambda e, X, y: float(e[-1].predict_proba(X * 2).sum()), "acc": "accuracy"}, "own"),
        (own_scorer, "hits"),
        (own_scorer, lambda results: 1),
        (["accuracy", "neg_log_loss"], lambda results: int(np.argmax(results["mean_test_accuracy"]))),
    ],
)  # fmt: skip
def test_several_scores(scoring: Any, refit: Any) -> None:
    pipe = make_pipeline(StandardScaler(), classifier())
    grid = {"reweightedclassifier__weighting__lam": [0.5, 1.0, 2.0]}
    assert_same(*both(pipe, grid, scoring=scoring, refit=refit, return_train_score=True))


def test_a_randomized_search() -> None:
    drawn = {
        "weighting__lam": loguniform(0.1, 10),
        "lr": loguniform(1e-3, 1e-1),
        "weighting__gamma": [0.5, 0.9],
    }
    search = (PackedRandomizedSearchCV, RandomizedSearchCV)
    assert_same(*both(classifier(), drawn, search=search, n_iter=5, random_state=0, refit=False))


# ---------------------------------------------------------------- rows and metadata


def test_groups() -> None:
    _, y = data()
    groups = np.arange(len(y)) % 10
    assert_same(*both(classifier(), {"weighting__lam": [0.5, 2.0]}, cv=GroupKFold(3), fit={"groups": groups}))


@pytest.mark.parametrize("cv", [StratifiedShuffleSplit(2, test_size=0.3, random_state=1), "masks", 2])
def test_splitters(cv: Any) -> None:
    _, y = data()
    if cv == "masks":
        cv = [(np.arange(len(y)) % 3 != k, np.arange(len(y)) % 3 == k) for k in range(3)]
    assert_same(*both(classifier(), {"weighting__lam": [0.5, 2.0]}, cv=cv))


@pytest.mark.parametrize("as_list", [False, True])
def test_sample_weights(as_list: bool) -> None:
    weights = 0.5 + np.random.default_rng(0).random(len(data()[1]))
    weights[::7] = 0.0
    given = {"sample_weight": weights.tolist() if as_list else weights}
    grid = {"weighting__lam": [0.5, 2.0], "random_state": [0, 1]}
    assert_same(*both(classifier(), grid, fit=given, scoring="accuracy"))
    pipe = make_pipeline(StandardScaler(), classifier())
    given = {"reweightedclassifier__sample_weight": weights}
    assert_same(*both(pipe, {"reweightedclassifier__weighting__lam": [0.5, 2.0]}, fit=given))


def test_given_validation_rows() -> None:
    X, y = data()
    given = {"X_val": X[::6], "y_val": y[::6]}
    grid = {"weighting": ["absgd", "two-phase", "ours"], "random_state": [0, 1]}
    assert_same(*both(classifier(), grid, fit=given))


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_routed_metadata_and_columns_of_all_kinds() -> None:
    X, y = data()
    frame = pd.DataFrame(X, columns=list("uvwxyz")).assign(kind=np.where(X[:, 0] > 0, "high", "low"))
    scaler = StandardScaler().set_fit_request(sample_weight=True)
    prepare = ColumnTransformer([("numbers", scaler, list("uvwxyz")), ("text", OneHotEncoder(), ["kind"])])
    net = classifier("hu").set_fit_request(X_val=True, y_val=True, sample_weight=True)
    pipe = Pipeline([("prepare", prepare), ("net", net)], transform_input=["X_val"])
    weights = 0.5 + np.random.default_rng(0).random(len(y))
    scorer = make_scorer(balanced_accuracy_score).set_score_request(sample_weight=True)
    given = {"sample_weight": weights, "X_val": frame[::6], "y_val": y[::6]}
    grid = {"prepare__numbers": [scaler, MinMaxScaler()], "net__weighting__decay": [5.0, 10.0]}
    assert_same(*both(pipe, grid, frame, y, fit=given, scoring=scorer))


def test_a_frame_keeps_its_names() -> None:
    X, y = data()
    ours, theirs = both(
        classifier(), {"weighting__lam": [0.5, 2.0]}, pd.DataFrame(X, columns=list("uvwxyz")), y
    )
    assert_same(ours, theirs)
    assert ours.best_estimator_.feature_names_in_.tolist() == list("uvwxyz")


def test_nested_pipelines_memory_and_samplers(tmp_path: Any) -> None:
    inner = make_pipeline(PCA(4), classifier())
    pipe = Pipeline([("scale", StandardScaler()), ("inner", inner)], memory=str(tmp_path))
    grid = {"inner__reweightedclassifier__weighting__lam": [0.5, 2.0], "inner__pca__n_components": [2, 3]}
    assert_same(*both(pipe, grid))
    sampled = make_sampling_pipeline(StandardScaler(), RandomOverSampler(random_state=0), classifier())
    assert_same(*both(sampled, {"reweightedclassifier__weighting__lam": [0.5, 2.0]}))


class Counts(StandardScaler):
    """Counts how often it is fitted."""

    n_fits = 0

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        Counts.n_fits += 1
        return super().fit(X, y, sample_weight)


def test_steps_before_are_fitted_once_for_each_fold_and_setting() -> None:
    pipe = make_pipeline(Counts(), classifier())
    grid = {"counts__with_mean": [True, False], "reweightedclassifier__weighting__lam": [0.5, 1.0, 2.0]}
    Counts.n_fits = 0
    PackedGridSearchCV(pipe, grid, cv=FOLDS, refit=False).fit(*data())
    assert Counts.n_fits == 2 * 3


def test_last_steps_of_several_kinds(capsys: Any) -> None:
    pipe = Pipeline([("scale", StandardScaler()), ("net", classifier())])
    grid = [
        {"net": [classifier("none"), classifier("hu")], "net__random_state": [0, 1]},
        {"net": [LogisticRegression()], "net__C": [0.1, 1.0], "scale": ["passthrough", MinMaxScaler()]},
    ]
    ours, theirs = both(pipe, grid, verbose=1)
    assert_same(ours, theirs)
    printed = capsys.readouterr().out
    assert says(printed, 12, 24)
    assert "12 fitted one by one: its last step is LogisticRegression." in printed


# ---------------------------------------------------------------- processes and nesting


def test_packs_over_processes(capsys: Any) -> None:
    pipe = make_pipeline(StandardScaler(), ReweightedClassifier(random_state=0))
    pipe.set_params(reweightedclassifier__module__hidden=(5,))
    pipe.set_params(reweightedclassifier__warmup_epochs=1, reweightedclassifier__max_epochs=1)
    grid = {
        "reweightedclassifier__weighting": ["absgd"],
        "reweightedclassifier__weighting__lam": [0.5, 1.0, 2.0],
    }
    ours, theirs = both(pipe, grid, n_jobs=2, verbose=1)
    assert_same(ours, theirs, 1e-3)
    assert says(capsys.readouterr().out, 8, 9)  # one is left over where the parts are cut


def test_rows_travel_beside_the_packs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data(n_rows=2000)
    spread, sent = _run.spread, []

    def spied(function: Any, common: Any, jobs: Any, **options: Any) -> Any:
        sent.append((common[0], len(pickle.dumps(jobs))))
        return spread(function, common, jobs, **options)

    monkeypatch.setattr(_run, "spread", spied)
    grid = {"weighting__lam": [0.5, 1.0, 2.0, 5.0]}
    search = PackedGridSearchCV(classifier(warmup_epochs=1, max_epochs=1), grid, cv=2, n_jobs=4)
    with parallel_config("threading"):
        search.fit(X, y)
    ((rows, n_bytes),) = sent
    assert rows[0] is X and rows[1] is y
    assert n_bytes < X.nbytes  # four parts, in which the folds' indices are most of it


def test_nested_cross_validation_and_clone() -> None:
    X, y = data()
    search = PackedGridSearchCV(classifier(), {"weighting__lam": [0.5, 2.0]}, cv=2, max_pack_size=3)
    assert clone(search).get_params()["max_pack_size"] == 3
    plain = GridSearchCV(classifier(), {"weighting__lam": [0.5, 2.0]}, cv=2)
    np.testing.assert_allclose(cross_val_score(search, X, y, cv=2), cross_val_score(plain, X, y, cv=2))

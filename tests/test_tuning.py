"""Searches and cross-validation over methods and parameters."""

import gc
import weakref

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch import nn

from skreweight import ReweightedClassifier
from skreweight.weighting import ABSGD, WEIGHTINGS, Hu, NoWeighting, Proportion

X, CODES = make_classification(120, 5, n_informative=4, n_redundant=0, weights=[0.75], random_state=0)
X = X.astype(np.float32)
Y = np.array(["common", "rare"])[CODES]
FOLDS = StratifiedKFold(2, shuffle=True, random_state=0)


class Small(nn.Module):
    """A network of the user's."""

    def __init__(self, n_features, n_classes, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, width), nn.Tanh(), nn.Linear(width, n_classes))

    def forward(self, x):
        return self.layers(x)


def classifier(weighting="hu", **parameters):
    defaults = {"warmup_epochs": 1, "max_epochs": 1, "batch_size": 32, "random_state": 3}
    if "module" not in parameters:
        defaults["module__hidden"] = (4,)
    return ReweightedClassifier(weighting=weighting, **{**defaults, **parameters})


def search(net, grid, **options):
    defaults = {"cv": FOLDS, "scoring": "balanced_accuracy", "error_score": "raise"}
    return GridSearchCV(net, grid, **{**defaults, **options}).fit(X, Y)


# ---------------------------------------------------------------- what can be searched


def test_methods_by_name_class_and_object():
    own = Hu(decay=5.0)
    grid = search(classifier(), {"weighting": [*WEIGHTINGS, Proportion, own, NoWeighting()]})
    assert len(grid.cv_results_["params"]) == len(WEIGHTINGS) + 3
    assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
    assert set(grid.predict(X)) <= {"common", "rare"}
    assert not hasattr(own, "state_")  # the user's object is never trained


@pytest.mark.filterwarnings("ignore:The validation rows are not balanced")  # a splitter's are as X is
def test_parameters_of_every_component():
    validation = [None, 3, 0.2, StratifiedShuffleSplit(1, test_size=0.2, random_state=0)]
    for grid in (
        {"weighting__step_size": [0.1, 1.0], "weighting__decay": [1.0, 10.0]},
        {"module__hidden": [(4,), (3, 3)], "lr": [0.01, 0.1]},
        {"optimizer__weight_decay": [0.0, 0.1], "batch_size": [16, -1]},
        {"validation_data": validation},
        {"warmup_epochs": [0, 1], "keep_best": ["step", False], "class_weight": [None, "balanced"]},
    ):
        found = search(classifier(), grid)
        assert np.isfinite(found.cv_results_["mean_test_score"]).all()
        for name, value in found.best_params_.items():
            assert found.best_estimator_.get_params()[name] is value or name in grid
        if "weighting__step_size" in grid:
            assert found.best_estimator_.weighting_.step_size == found.best_params_["weighting__step_size"]


def test_modules_optimizers_and_criteria():
    grid = {
        "module": [None, Small],
        "optimizer": [torch.optim.SGD, torch.optim.Adam],
        "criterion": [nn.CrossEntropyLoss, nn.MultiMarginLoss],
    }
    assert len(search(ReweightedClassifier(max_epochs=1, warmup_epochs=1), grid).cv_results_["params"]) == 8


def test_the_parameters_of_a_candidate_reach_the_method():
    class Spy(ReweightedClassifier):
        def score(self, X, y, sample_weight=None):
            seen.append((self.weighting_.__class__.__name__, self.weighting_.get_params().get("lam")))
            return super().score(X, y)

    seen = []
    spy = Spy(warmup_epochs=0, max_epochs=1, module__hidden=(3,))
    search(
        spy,
        {"weighting": ["absgd", ABSGD, ABSGD(lam=7.0)], "weighting__lam": [0.5, 2.0]},
        scoring=None,
        refit=False,
    )
    assert seen == [("ABSGD", lam) for _ in range(3) for lam in (0.5, 2.0) for _ in range(2)]


def test_lists_of_dicts_in_a_pipeline():
    net = make_pipeline(StandardScaler(), classifier())
    name = "reweightedclassifier__weighting"
    grid = [
        {name: ["absgd"], f"{name}__lam": [0.1, 10]},
        {name: ["ours"], f"{name}__step_size": [0.1], f"{name}__lp_norm": [2, 4]},
    ]
    found = search(net, grid)
    assert len(found.cv_results_["params"]) == 4
    assert found.best_estimator_[-1].weighting_.get_params()


def test_a_parameter_of_another_method_says_whose_it_is():
    with pytest.raises(ValueError, match=r"weighting__lam is set, but weighting 'ours'.*belongs to 'absgd'"):
        search(classifier("absgd", weighting__lam=2.0), {"weighting": ["absgd", "ours"]})


def test_a_parameter_of_no_method_is_refused_at_once():
    with pytest.raises(ValueError, match="lamda"):
        search(classifier(), {"weighting__lamda": [1.0]})


# ---------------------------------------------------------------- ways to search


def test_several_scorers_and_refit():
    scoring = ["balanced_accuracy", "average_precision", "neg_log_loss", "roc_auc"]
    labels = CODES  # scikit-learn's average precision wants to know which label is positive
    found = GridSearchCV(
        classifier(), {"lr": [0.01, 0.1]}, scoring=scoring, refit="roc_auc", cv=FOLDS, error_score="raise"
    ).fit(X, labels)
    assert all(np.isfinite(found.cv_results_[f"mean_test_{s}"]).all() for s in scoring)
    again = clone(classifier()).set_params(**found.best_params_).fit(X, labels)
    np.testing.assert_array_equal(found.predict_proba(X), again.predict_proba(X))


def test_randomized_and_halving_search():
    distributions = {"weighting": ["hu", "ours"], "weighting__step_size": [0.1, 1.0], "lr": [0.01, 0.1]}
    common = {"cv": FOLDS, "random_state": 0, "error_score": "raise"}
    found = RandomizedSearchCV(classifier(), distributions, n_iter=3, **common).fit(X, Y)
    assert len(found.cv_results_["params"]) == 3
    halving = HalvingGridSearchCV(
        classifier(), {"max_epochs": [1], "lr": [0.01, 0.1, 1.0]}, factor=3, min_resources=40, **common
    ).fit(X, Y)
    assert halving.n_resources_[0] < halving.n_resources_[-1] <= len(X)
    epochs = HalvingGridSearchCV(
        classifier(), {"lr": [0.01, 0.1]}, resource="max_epochs", max_resources=2, factor=2, **common
    ).fit(X, Y)
    assert epochs.best_estimator_.history[-1, "epoch"] == 3


def test_cross_validate_returns_estimators_and_training_scores():
    result = cross_validate(
        classifier("ours"),
        X,
        Y,
        cv=FOLDS,
        return_estimator=True,
        return_train_score=True,
        error_score="raise",
    )
    assert np.isfinite(result["test_score"]).all()
    assert [len(e.example_weights_) for e in result["estimator"]] == [60, 60]


def test_out_of_fold_probabilities():
    proba = cross_val_predict(classifier("hu"), X, Y, cv=FOLDS, method="predict_proba")
    assert proba.shape == (len(X), 2)


@pytest.mark.slow
def test_two_workers_find_what_one_finds():
    grid = {"lr": [0.01, 0.1], "weighting": ["absgd", Hu()]}
    alone = search(classifier(), grid, n_jobs=1)
    together = search(classifier(), grid, n_jobs=2)
    np.testing.assert_array_equal(
        alone.cv_results_["mean_test_score"], together.cv_results_["mean_test_score"]
    )
    np.testing.assert_array_equal(alone.predict_proba(X), together.predict_proba(X))


# ---------------------------------------------------------------- nothing leaks


class Recording(Callback):
    """Keeps the rows that reach training and validation."""

    seen: list = []  # noqa: RUF012

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        rows = dataset_train.dataset.X
        trained, held = rows[dataset_train.indices], dataset_valid.X
        Recording.seen.append((len(rows), trained[:, 0].tolist(), held[:, 0].tolist()))


@pytest.mark.filterwarnings("ignore:The validation rows are not balanced")  # a splitter's are as X is
@pytest.mark.parametrize(
    "validation_data", [None, 4, 0.3, StratifiedShuffleSplit(1, test_size=0.2, random_state=0)]
)
def test_validation_rows_come_from_the_training_fold_alone(validation_data):
    numbered = X.copy()
    numbered[:, 0] = np.arange(len(X))  # a row is known by its first column
    Recording.seen = []
    net = ReweightedClassifier(
        weighting="ours",
        callbacks=[Recording()],
        module__hidden=(3,),
        validation_data=validation_data,
        warmup_epochs=0,
        max_epochs=1,
        lr=1e-4,
        weighting__backtrack=True,
    )
    cross_validate(net, numbered, Y, cv=FOLDS, error_score="raise")
    assert len(Recording.seen) == 2
    for (n_rows, trained, held), (train_fold, test_fold) in zip(
        Recording.seen, FOLDS.split(X, Y), strict=True
    ):
        assert n_rows == len(train_fold)
        assert len(held) > 0
        assert set(held) <= set(train_fold.tolist())
        assert set(trained) | set(held) == set(train_fold.tolist())
        assert not set(held) & set(trained)
        assert not (set(held) | set(trained)) & set(test_fold.tolist())


def test_a_search_changes_neither_the_estimator_nor_the_users_objects():
    own = Hu(decay=5.0)
    net = classifier(own)
    before = repr(net)
    search(net, {"weighting__decay": [1.0, 2.0], "lr": [0.1]})
    assert repr(net) == before
    assert not net.initialized_
    assert net.weighting is own
    assert own.get_params()["decay"] == 5.0
    assert vars(own) == vars(Hu(decay=5.0))


class Counting(ReweightedClassifier):
    """Knows which of its modules are still in memory."""

    modules: list = []  # noqa: RUF012

    def initialize_module(self):
        super().initialize_module()
        Counting.modules.append(weakref.ref(self.module_))
        return self


@pytest.mark.parametrize("weighting", ["none", "ours"])
def test_memory_is_freed_between_candidates(weighting):
    Counting.modules = []
    net = Counting(weighting=weighting, module__hidden=(3,), warmup_epochs=1, max_epochs=1)

    def score(estimator, X, y):
        gc.collect()
        alive.append(sum(ref() is not None for ref in Counting.modules))
        return estimator.score(X, y)

    alive = []
    search(net, {"lr": [0.01, 0.1]}, scoring=score, refit=False)
    assert alive == [1] * 4
    gc.collect()
    assert not any(ref() is not None for ref in Counting.modules)


def test_memory_of_a_fit_is_freed_without_the_garbage_collector():
    Counting.modules = []
    gc.disable()
    try:
        Counting(weighting="ours", module__hidden=(3,), warmup_epochs=1, max_epochs=1).fit(X, Y)
        assert Counting.modules[0]() is None
    finally:
        gc.enable()

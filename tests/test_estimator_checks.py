"""scikit-learn's own checks over every registered weighting, and what tools around scikit-learn look at."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone, is_classifier
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight.weighting import WEIGHTINGS, Hu

#: The one table of checks that are expected to fail; docs/scikit_learn.md shows it to users.
EXPECTED_FAILURES = {
    "check_no_attributes_set_in_init": (
        "skorch sets history_, initialized_ and virtual_params_ in __init__, and keeps module__* as attributes"
    ),
    "check_sample_weight_equivalence_on_dense_data": (
        "asks for 1e-7, float32 and mini-batches give less; see tests/test_sample_weight.py for what holds"
    ),
}

SMALL = {"module__hidden": (16,), "batch_size": 32, "warmup_epochs": 5, "max_epochs": 2, "lr": 1e-2}

# A new last layer takes some epochs. L_val, which "ours" follows, has no class weights: with a new optimiser a few
# epochs undo them.
OWN = {"crt": {"max_epochs": 10}, "ours": {"max_epochs": 1}}

# The checks hand in columns that vary little, X_val has no part in them: nothing here may warn.
# scikit-learn's own array checks cast infinity to an integer on the way to their error.
# Some hand in labels that have nothing to do with X, or class weights that no one would set.
pytestmark = [
    pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Stage 1 ended with a loss:UserWarning"),
    pytest.mark.filterwarnings("ignore:The network gives the same outputs:UserWarning"),
    pytest.mark.filterwarnings("ignore:The classes' numbers of rows are corrected for twice:UserWarning"),
]


def _expected(estimator: Any) -> dict[str, str]:
    return EXPECTED_FAILURES


@parametrize_with_checks(
    [ReweightedClassifier(weighting=name, **{**SMALL, **OWN.get(name, {})}) for name in WEIGHTINGS],
    expected_failed_checks=_expected,
)
def test_check_estimator(estimator: ReweightedClassifier, check: Any) -> None:
    check(estimator)


def _expected_of_ensemble(estimator: Any) -> dict[str, str]:
    return {k: v for k, v in EXPECTED_FAILURES.items() if k != "check_no_attributes_set_in_init"}


@parametrize_with_checks(
    [ReweightedEnsembleClassifier(n_steps=60, n_folds=3)], expected_failed_checks=_expected_of_ensemble
)
def test_check_ensemble(estimator: ReweightedEnsembleClassifier, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [ReweightedEnsembleClassifier(), ReweightedEnsembleClassifier(n_steps=60, encoder=None)],
    expected_failed_checks=_expected_of_ensemble,
)
def test_check_other_ensembles(estimator: ReweightedEnsembleClassifier, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([ReweightedClassifier()], expected_failed_checks=_expected)
def test_check_estimator_with_the_defaults(estimator: ReweightedClassifier, check: Any) -> None:
    check(estimator)


def test_users_can_read_the_table() -> None:
    page = (Path(__file__).parents[1] / "docs" / "scikit_learn.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(check_\w+)`", page)) == set(EXPECTED_FAILURES)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return make_classification(80, 5, weights=[0.8], random_state=0)


def fitted(X: Any, y: Any, **params: Any) -> ReweightedClassifier:
    options = {"weighting": "none", **SMALL, "warmup_epochs": 1, "max_epochs": 1, "random_state": 0}
    return ReweightedClassifier(**{**options, **params}).fit(X, y)


def test_tags() -> None:
    tags = get_tags(ReweightedClassifier())
    assert is_classifier(ReweightedClassifier())
    assert tags.classifier_tags.multi_class and not tags.classifier_tags.multi_label
    assert tags.target_tags.required and not tags.target_tags.multi_output
    assert not tags.input_tags.sparse and not tags.input_tags.allow_nan
    assert tags.requires_fit


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(ReweightedClassifier()) == "ReweightedClassifier()"
    clf = ReweightedClassifier(weighting=Hu(decay=2.0), max_epochs=3, module__hidden=(8,))
    assert repr(clf) == "ReweightedClassifier(max_epochs=3, module__hidden=(8,), weighting=Hu(decay=2.0))"


@pytest.mark.parametrize("is_fitted", [False, True])
def test_html_representation(data: tuple[np.ndarray, np.ndarray], is_fitted: bool) -> None:
    clf = fitted(*data) if is_fitted else ReweightedClassifier(max_epochs=3)
    html = clf._repr_html_()
    assert "ReweightedClassifier" in html
    assert ("<span>Fitted</span>" in html) is is_fitted
    assert make_pipeline(StandardScaler(), clf)._repr_html_().count("ReweightedClassifier") >= 1


@pytest.mark.skipif(
    not hasattr(ReweightedClassifier, "_get_params_html"), reason="a table since scikit-learn 1.7"
)
def test_html_table_marks_only_what_the_user_set() -> None:
    table = ReweightedClassifier(max_epochs=3, weighting__beta=0.9)._get_params_html(deep=False)
    assert set(table.non_default) == {"max_epochs", "weighting__beta"}


def test_parameters_stand_in_the_signature() -> None:
    named = set(inspect.signature(ReweightedClassifier).parameters) - {"kwargs"}
    assert set(ReweightedClassifier().get_params(deep=False)) == named
    assert not [name for name in ReweightedClassifier().get_params() if name.startswith("_")]


def test_a_fit_adds_no_parameter(data: tuple[np.ndarray, np.ndarray]) -> None:
    clf = ReweightedClassifier(**SMALL).set_params(warmup_epochs=1, max_epochs=1)
    before = set(clf.get_params(deep=False))
    assert set(clf.fit(*data).get_params(deep=False)) == before
    assert not [name for name in clf.get_params() if name.startswith("_")]


@pytest.mark.parametrize("weighting", ["hu", Hu, Hu(decay=3.0)])
def test_weighting_parameters_through_get_set_and_clone(weighting: Any) -> None:
    clf = ReweightedClassifier(weighting=weighting, weighting__step_size=0.5)
    assert clf.get_params()["weighting__step_size"] == 0.5
    assert clf.get_params()["weighting__decay"] == (3.0 if isinstance(weighting, Hu) else 10.0)
    clf.set_params(weighting__decay=7.0)
    copy = clone(clf)
    assert copy.get_params()["weighting__decay"] == 7.0
    assert copy.get_params()["weighting__step_size"] == 0.5
    assert type(copy.weighting) is type(weighting)
    if isinstance(weighting, Hu):
        assert weighting.decay == 3.0 and copy.weighting is not weighting


def test_set_params_returns_self_and_reaches_the_module(data: tuple[np.ndarray, np.ndarray]) -> None:
    clf = ReweightedClassifier(**SMALL)
    assert clf.set_params(module__hidden=(4,), warmup_epochs=1, max_epochs=1) is clf
    assert clf.fit(*data).module_.layers[1].out_features == 4


def test_columns_are_learned_from_a_frame(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    frame = pd.DataFrame(X, columns=list("abcde"))
    clf = fitted(frame, y)
    assert clf.feature_names_in_.tolist() == list("abcde")
    assert clf.n_features_in_ == 5
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(frame[list("edcba")])
    clf.fit(X, y)
    assert not hasattr(clf, "feature_names_in_")


def test_frames_of_set_output_arrive_with_their_names(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = data
    pipe = make_pipeline(StandardScaler(), ReweightedClassifier(**SMALL)).set_output(transform="pandas")
    pipe.set_params(reweightedclassifier__warmup_epochs=1, reweightedclassifier__max_epochs=1)
    pipe.fit(pd.DataFrame(X, columns=list("abcde")), y)
    assert pipe[-1].feature_names_in_.tolist() == list("abcde")
    assert pipe.predict(pd.DataFrame(X, columns=list("abcde"))).shape == y.shape


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "history_frame"])
def test_nothing_answers_before_fit(method: str) -> None:
    arguments = () if method == "history_frame" else (np.zeros((2, 3)),)
    with pytest.raises(NotFittedError, match=r"not (fitted|initialized) yet"):
        getattr(ReweightedClassifier(), method)(*arguments)
    assert not hasattr(ReweightedClassifier(), "classes_")


def test_scikit_learn_is_one_of_those_supported() -> None:
    assert tuple(int(part) for part in sklearn.__version__.split(".")[:2]) >= (1, 6)

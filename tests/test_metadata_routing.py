"""Validation rows through pipelines and searches: transformed like X, or a word on what is missing."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skreweight import ReweightedClassifier
from skreweight.weighting import WEIGHTINGS, NoWeighting, Step

SMALL = {
    "module__hidden": (6,),
    "warmup_epochs": 1,
    "max_epochs": 1,
    "random_state": 0,
    "batch_size": 32,
    "lr": 1e-2,
}


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def rows(n_rows: int = 90, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Mixed columns, with raw numbers far from 0 and labels as text."""
    generator = np.random.default_rng(seed)
    y = np.where(np.arange(n_rows) % 3 == 0, "rare", "common")
    frame = pd.DataFrame(
        {
            "size": generator.normal(1000, 50, n_rows) + 50 * (y == "rare"),
            "count": generator.integers(40, 60, n_rows),
            "colour": generator.choice(["red", "green", "blue"], n_rows),
        }
    )
    return frame, y


def preprocessing() -> ColumnTransformer:
    return ColumnTransformer(
        [("numbers", StandardScaler(), ["size", "count"]), ("text", OneHotEncoder(), ["colour"])]
    )


def classifier(weighting: Any = "hu", **params: Any) -> ReweightedClassifier:
    return ReweightedClassifier(weighting=weighting, **{**SMALL, **params})


def routed(weighting: Any = "hu", **params: Any) -> Pipeline:
    clf = classifier(weighting, **params).set_fit_request(X_val=True, y_val=True)
    return Pipeline([("prepare", preprocessing()), ("clf", clf)], transform_input=["X_val"])


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_pipeline_transforms_the_validation_rows(weighting: str) -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    pipe = routed(weighting).fit(X, y, X_val=X_val, y_val=y_val)
    prepare = preprocessing().fit(X)
    by_hand = classifier(weighting).fit(
        prepare.transform(X), y, X_val=prepare.transform(X_val), y_val=pd.Series(y_val)
    )
    np.testing.assert_array_equal(pipe.predict_proba(X), by_hand.predict_proba(prepare.transform(X)))
    assert pipe.classes_.tolist() == ["common", "rare"]
    assert pipe[-1].validation_indices_ is None


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_transforms_them_with_each_fold(n_jobs: int) -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    search = GridSearchCV(
        routed(),
        {"clf__weighting": ["ren", "hu"], "clf__lr": [0.01]},
        cv=3,
        n_jobs=n_jobs,
        error_score="raise",
    )
    search.fit(X, y, X_val=X_val, y_val=y_val)
    assert search.predict(X).dtype == y.dtype
    best = routed(**{k.removeprefix("clf__"): v for k, v in search.best_params_.items()})
    best.fit(X, y, X_val=X_val, y_val=y_val)
    np.testing.assert_array_equal(search.predict_proba(X), best.predict_proba(X))


@pytest.mark.usefixtures("routing")
def test_cross_validate_passes_them_on() -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    scores = cross_validate(
        routed(),
        X,
        y,
        cv=3,
        params={"X_val": X_val, "y_val": y_val},
        return_estimator=True,
        error_score="raise",
    )
    assert all(pipe[-1].validation_indices_ is None for pipe in scores["estimator"])


@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_beside_them() -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    weight = np.where(y == "rare", 3.0, 1.0)
    clf = classifier().set_fit_request(X_val=True, y_val=True, sample_weight=True)
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    pipe = Pipeline([("scale", scaler), ("clf", clf)], transform_input=["X_val"])
    numbers = ["size", "count"]
    pipe.fit(X[numbers], y, sample_weight=weight, X_val=X_val[numbers], y_val=y_val)
    np.testing.assert_allclose(pipe[-1].class_counts_, np.array([60, 90]) / weight.mean())


@pytest.mark.usefixtures("routing")
def test_the_request_survives_clone_and_names_what_fit_takes() -> None:
    request = sklearn.clone(routed()[-1]).get_metadata_routing().fit.requests
    assert request == {"X_val": True, "y_val": True, "sample_weight": None}


@pytest.mark.usefixtures("routing")
def test_without_a_request_scikit_learn_says_what_to_call() -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    pipe = Pipeline([("prepare", preprocessing()), ("clf", classifier())], transform_input=["X_val"])
    with pytest.raises(ValueError, match="set_fit_request"):
        pipe.fit(X, y, X_val=X_val, y_val=y_val)


# ------------------------------------------------------------------ without routing


def test_transform_input_without_routing_is_scikit_learns_error() -> None:
    X, y = rows()
    pipe = Pipeline([("prepare", preprocessing()), ("clf", classifier())], transform_input=["X_val"])
    with pytest.raises(ValueError, match="enable_metadata_routing"):
        pipe.fit(X, y, clf__X_val=X, clf__y_val=y)


def test_raw_numbers_raise_a_warning_that_names_the_fix() -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    numbers = ["size", "count"]
    pipe = Pipeline([("scale", StandardScaler()), ("clf", classifier())])
    with pytest.warns(UserWarning, match=r"another scale.*transform_input=\['X_val'\].*set_fit_request"):
        pipe.fit(X[numbers], y, clf__X_val=X_val[numbers], clf__y_val=y_val)


def test_raw_text_is_an_error_that_names_the_fix() -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    pipe = Pipeline([("prepare", preprocessing()), ("clf", classifier())])
    with pytest.raises(ValueError, match=r"X_val cannot be used.*'colour'.*transform_input=\['X_val'\]"):
        pipe.fit(X, y, clf__X_val=X_val, clf__y_val=y_val)


def test_another_number_of_columns_is_an_error_that_names_the_fix() -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    pipe = Pipeline([("prepare", preprocessing()), ("clf", classifier())])
    with pytest.raises(ValueError, match=r"X_val cannot be used.*2 features.*5 features.*transform_input"):
        pipe.fit(X, y, clf__X_val=X_val[["size", "count"]], clf__y_val=y_val)


# ------------------------------------------------------------------ nothing given: each fold carves its own


class Spy(NoWeighting):
    """Remembers the first column of the validation rows."""

    needs_validation = True
    seen: ClassVar[list[frozenset[float]]] = []

    def weigh(self, step: Step) -> Any:
        assert step.validation is not None
        Spy.seen.append(frozenset(step.validation._all[0][:, 0].tolist()))
        return super().weigh(step)


def test_every_fold_carves_from_its_training_part() -> None:
    X = np.arange(90, dtype=np.float32).reshape(-1, 1) / 90
    y = (np.arange(90) % 3 == 0).astype(int)
    folds = [(np.arange(45, 90), np.arange(45)), (np.arange(45), np.arange(45, 90))]
    Spy.seen.clear()
    cross_validate(classifier(Spy), X, y, cv=folds, error_score="raise")
    by_fold = list(dict.fromkeys(Spy.seen))
    assert len(by_fold) == 2
    for held, (train, _) in zip(by_fold, folds, strict=True):
        assert held and held <= set(X[train, 0].tolist())

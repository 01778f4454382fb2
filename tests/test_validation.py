"""Where validation rows come from, and what is said when they cannot be right."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold, StratifiedShuffleSplit
from sklearn.preprocessing import StandardScaler
from skorch.dataset import ValidSplit

from skreweight import ReweightedClassifier
from skreweight._rows.carve import _n_shared_rows, carve, shown, warn_of_traps
from skreweight.weighting import WEIGHTINGS

LABELS = np.array(["common", "rare"])


def classifier(weighting: str = "hu", **params: Any) -> ReweightedClassifier:
    defaults = {
        "module__hidden": (6,),
        "warmup_epochs": 1,
        "max_epochs": 1,
        "random_state": 0,
        "batch_size": 32,
    }
    return ReweightedClassifier(weighting=weighting, **{**defaults, **params})


def rows(n_rows: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = np.where(np.arange(n_rows) % 3 == 0, "rare", "common")
    return generator.normal(size=(n_rows, 4)) + (y == "rare")[:, None], y


def carved(validation_data: Any, counts: tuple[int, ...], seed: int = 0) -> np.ndarray:
    codes = np.repeat(np.arange(len(counts)), counts)
    labels = np.array([f"class {i}" for i in range(len(counts))])
    generator = np.random.RandomState(seed)
    return carve(validation_data, codes, labels, np.arange(len(codes)), generator)


# ------------------------------------------------------------------ carving


@given(st.lists(st.integers(2, 800), min_size=2, max_size=5))
def test_the_default_takes_a_fifth_of_the_rarest_class_but_at_most_100(counts: list[int]) -> None:
    held = carved(None, tuple(counts))
    codes = np.repeat(np.arange(len(counts)), counts)
    wanted = max(1, min(100, min(counts) // 5))
    assert np.bincount(codes[held], minlength=len(counts)).tolist() == [wanted] * len(counts)
    assert len(set(held)) == len(held) and (np.diff(held) > 0).all()


@pytest.mark.parametrize(
    ("validation_data", "each"), [(1, 1), (7, 7), (np.int64(3), 3), (0.5, 10), (0.25, 5), (0.01, 1)]
)
def test_numbers_and_fractions(validation_data: Any, each: int) -> None:
    held = carved(validation_data, (100, 20))
    assert [(held < 100).sum(), (held >= 100).sum()] == [each, each]


@pytest.mark.parametrize(
    "splitter",
    [
        StratifiedKFold(4),
        StratifiedShuffleSplit(1, test_size=8, random_state=0),
        KFold(2, shuffle=True, random_state=0),
    ],
)
def test_a_splitter_gives_its_first_test_rows(splitter: Any) -> None:
    codes = np.repeat([0, 1], (30, 10))
    expected = np.sort(next(splitter.split(np.zeros((40, 1)), codes))[1])
    np.testing.assert_array_equal(carved(splitter, (30, 10)), expected)


def test_skorchs_valid_split() -> None:
    held = carved(ValidSplit(5, stratified=True), (30, 10))
    assert len(held) == 8
    assert (held >= 30).sum() == 2


def test_only_candidates_are_carved() -> None:
    codes = np.repeat([0, 1], (20, 20))
    candidates = np.arange(0, 40, 2)
    held = carve(4, codes, LABELS, candidates, np.random.RandomState(0))
    assert set(held) <= set(candidates)


def test_carving_follows_the_random_state() -> None:
    np.testing.assert_array_equal(carved(5, (50, 50), seed=1), carved(5, (50, 50), seed=1))
    assert not np.array_equal(carved(5, (50, 50), seed=1), carved(5, (50, 50), seed=2))


IMPOSSIBLE = {
    "zero": (0, "must be at least 1, got 0"),
    "too many": (
        20,
        "Class 'class 0' has 20 row.s.: 20 for validation would leave none to train on.*validation_data=",
    ),
    "above one": (1.5, "must lie between 0 and 1, got 1.5"),
    "text": ("5", "validation_data must be None, a number of rows per class.*got '5'"),
    "a boolean": (True, "validation_data must be None, a number of rows per class.*got True"),
    "folds by order": (KFold(2), "leaves no .* row of class .*: use a stratified splitter"),
    "groups": (GroupKFold(2), "could not split the rows.*groups"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_be_carved(case: str) -> None:
    validation_data, words = IMPOSSIBLE[case]
    with pytest.raises(ValueError, match=words):
        carved(validation_data, (20, 20))


def test_a_class_with_a_single_row() -> None:
    with pytest.raises(ValueError, match=r"'class 1' has 1 row\(s\).*Give validation_data=\(X_val, y_val\)"):
        carved(None, (20, 1))


# ------------------------------------------------------------------ in fit


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_rows_are_held_out_only_where_they_are_needed(weighting: str) -> None:
    X, y = rows()
    clf = classifier(weighting).fit(X, y)
    if not WEIGHTINGS[weighting].needs_validation:
        assert clf.validation_indices_ is None
        assert not np.isnan(clf.example_weights_).any()
        return
    assert np.unique(y[clf.validation_indices_], return_counts=True)[1].tolist() == [4, 4]
    assert set(np.flatnonzero(np.isnan(clf.example_weights_))) == set(clf.validation_indices_)
    assert clf.class_counts_.tolist() == [36, 16]


def test_asked_for_validation_rows_are_held_out_for_any_method() -> None:
    X, y = rows()
    clf = classifier("none", validation_data=5).fit(X, y)
    assert len(clf.validation_indices_) == 10
    assert "valid_loss" in clf.history_[-1]


def test_rows_held_out_are_not_trained_on() -> None:
    X, y = rows()
    clf = classifier("ours").fit(X, y)
    held = clf.validation_indices_
    moved = X.copy()
    moved[held] += 5  # the split looks at labels alone, so the same rows are held out
    stage_one = {"max_epochs": 0, "keep_best": False}
    one, other = (classifier("ours", **stage_one).fit(part, y) for part in (X, moved))
    np.testing.assert_array_equal(other.validation_indices_, held)
    for p, q in zip(one.module_.parameters(), other.module_.parameters(), strict=True):
        assert torch.equal(p, q)


def test_as_training_rows_too_they_have_weights() -> None:
    X, y = rows()
    clf = classifier("hu", train_on_validation=True).fit(X, y)
    assert not np.isnan(clf.example_weights_).any()
    X_val, y_val = rows(12, seed=1)
    clf.fit(X, y, X_val=X_val, y_val=y_val)
    assert len(clf.example_weights_) == len(X)
    assert clf.class_counts_.sum() == len(X) + len(X_val)


KINDS = {
    "arrays": lambda X, y: (X, y),
    "lists": lambda X, y: (X.tolist(), y.tolist()),
    "tensor": lambda X, y: (torch.from_numpy(X), y),
    "float32": lambda X, y: (X.astype(np.float32), y),
    "frame and Series": lambda X, y: (pd.DataFrame(X), pd.Series(y, index=np.arange(len(y)) + 7)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_given_rows_by_fit_and_by_constructor(kind: str) -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    expected = classifier().fit(X, y, X_val=X_val, y_val=y_val)
    given_rows = KINDS[kind](X_val, y_val)
    by_fit = classifier().fit(X, y, X_val=given_rows[0], y_val=given_rows[1])
    by_constructor = classifier(validation_data=given_rows).fit(X, y)
    for clf in (by_fit, by_constructor):
        assert clf.validation_indices_ is None
        np.testing.assert_array_equal(clf.predict_proba(X), expected.predict_proba(X))


def test_fit_wins_over_the_constructor() -> None:
    X, y = rows()
    ours, other = rows(12, seed=1), rows(15, seed=2)
    both = classifier(validation_data=other).fit(X, y, X_val=ours[0], y_val=ours[1])
    expected = classifier().fit(X, y, X_val=ours[0], y_val=ours[1])
    np.testing.assert_array_equal(both.predict_proba(X), expected.predict_proba(X))


def test_columns_of_frames_are_named_by_X_alone() -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert classifier().fit(frame, y, X_val=X_val, y_val=y_val).feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match=r"X_val cannot be used.*feature names should match"):
        classifier().fit(frame, y, X_val=pd.DataFrame(X_val, columns=list("dcba")), y_val=y_val)


def _spoil(X_val: np.ndarray, value: float) -> np.ndarray:
    X_val = X_val.copy()
    X_val[0, 0] = value
    return X_val


BAD: dict[str, tuple[Any, str]] = {
    "X_val alone": (lambda X, y: {"X_val": X}, "X_val was given without y_val: pass both, or neither"),
    "y_val alone": (lambda X, y: {"y_val": y}, "y_val was given without X_val: pass both, or neither"),
    "a class missing": (
        lambda X, y: {"X_val": X[y == "rare"], "y_val": y[y == "rare"]},
        "y_val has no row of class 'common': validation rows must hold every class",
    ),
    "unknown label": (
        lambda X, y: {"X_val": X, "y_val": np.where(y == "rare", "raer", y)},
        r"y_val contains the label 'raer', which is none of the classes \['common', 'rare'\]",
    ),
    "codes for text": (
        lambda X, y: {"X_val": X, "y_val": (y == "rare").astype(int)},
        r"y_val contains the label 1, which is none of the classes \['common', 'rare'\]",
    ),
    "another number of rows": (lambda X, y: {"X_val": X[1:], "y_val": y}, "equally many rows, got 11 and 12"),
    "another number of columns": (
        lambda X, y: {"X_val": X[:, 1:], "y_val": y},
        r"X_val cannot be used.*3 features.*4 features.*transform_input=\['X_val'\].*set_fit_request",
    ),
    "text": (
        lambda X, y: {"X_val": pd.DataFrame([[*row[:3], "red"] for row in X]), "y_val": y},
        "X_val cannot be used.*text where numbers belong.*transform_input",
    ),
    "NaN": (lambda X, y: {"X_val": _spoil(X, np.nan), "y_val": y}, "X_val cannot be used.*NaN"),
    "infinity": (lambda X, y: {"X_val": _spoil(X, np.inf), "y_val": y}, "X_val cannot be used.*infinity"),
    "no row": (lambda X, y: {"X_val": X[:0], "y_val": y[:0]}, "X_val|y_val"),
    "one dimension": (lambda X, y: {"X_val": X[:, 0], "y_val": y}, "(?s)X_val cannot be used.*2D array"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_validation_rows_leave_the_estimator_as_it_was(case: str) -> None:
    make, words = BAD[case]
    X, y = rows()
    clf = classifier("ours").fit(X, y)
    before, state = clf.predict_proba(X), dict(clf.__dict__)
    with pytest.raises((TypeError, ValueError), match=words.replace(".*", "(?s:.*)")):
        clf.fit(X, y, **make(*rows(12, seed=1)))
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.__dict__ == state


def test_a_pair_must_be_two() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match=r"must be \(X_val, y_val\), got 3 entries"):
        classifier(validation_data=(X, y, y)).fit(X, y)


# ------------------------------------------------------------------ traps


def test_rows_from_the_same_source_raise_no_warning() -> None:
    """Also where the rare class is rare in X and common in X_val, and with columns of all scales."""
    generator = np.random.default_rng(0)
    for n_rare in (1, 3, 30):
        y = np.repeat([0, 1], (300, n_rare))
        X = np.exp(3 * generator.normal(size=(len(y), 6))) + 20 * y[:, None]
        y_val = np.repeat([0, 1], (8, 8))
        X_val = np.exp(3 * generator.normal(size=(len(y_val), 6))) + 20 * y_val[:, None]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_traps(X, X_val)


@pytest.mark.parametrize(
    "raw",
    [lambda X: 50 + 10 * X, lambda X: 1e4 * X + 3e4, lambda X: 1e-5 * X, lambda X: X + 10, lambda X: -20 - X],
)
@pytest.mark.parametrize("scaled_is_X", [True, False])
def test_one_of_them_raw(raw: Any, scaled_is_X: bool) -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    scaler = StandardScaler().fit(raw(X))
    both = (scaler.transform(raw(X)), raw(X_val)) if scaled_is_X else (raw(X), scaler.transform(raw(X_val)))
    with pytest.warns(UserWarning, match=r"another scale.*transform_input=\['X_val'\]"):
        warn_of_traps(*both)
    if scaled_is_X:
        with pytest.warns(UserWarning, match="another scale"):
            classifier().fit(both[0], y, X_val=both[1], y_val=y_val)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_shared_with_X_are_counted(dtype: Any) -> None:
    X, y = rows()
    X_val, y_val = rows(12, seed=1)
    X_val[[2, 5, 7]] = X[[3, 50, 3]]
    with pytest.warns(UserWarning, match=r"3 row\(s\) of X_val stand in X as well.*Take them out of X"):
        classifier().fit(X.astype(np.float32), y, X_val=X_val.astype(dtype), y_val=y_val)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 12), st.integers(1, 4))
def test_shared_rows_against_a_double_loop(seed: int, n: int, n_val: int, n_columns: int) -> None:
    generator = np.random.default_rng(seed)
    X, X_val = (generator.integers(0, 2, size=(k, n_columns)).astype(float) for k in (n, n_val))
    slow = sum(any((row == other).all() for other in X) for row in X_val)
    assert _n_shared_rows(X, X_val) == _n_shared_rows(X, X_val, rows_at_once=3) == slow


@pytest.mark.filterwarnings("default")
def test_rows_cut_by_the_folds_of_a_search() -> None:
    """An X_val with as many rows as X is taken for data of the search, and cut without a word from it."""
    X, y = rows()
    X_val, y_val = rows(len(X), seed=1)[0], np.where(np.arange(len(X)) % 2 == 0, "rare", "common")
    search = GridSearchCV(classifier(), {"weighting": ["hu"]}, cv=3, refit=False)
    with pytest.warns(UserWarning, match="exactly as many rows as X.*give a validation set of another size"):
        search.fit(X, y, X_val=X_val, y_val=y_val)


@pytest.mark.parametrize("label", [np.int64(1), np.str_("a"), 1, "a", np.array([1, 2]), np.array(["a"])])
def test_labels_are_shown_as_users_write_them(label: Any) -> None:
    assert "np." not in shown(label) and "array" not in shown(label)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("val_dtype", [np.float16, np.float32, np.float64])
def test_shared_rows_of_any_two_floating_dtypes_are_told(dtype: type, val_dtype: type) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float16)
    X, y = rows.astype(dtype), np.arange(60) % 2
    clf = ReweightedClassifier(weighting="hu", warmup_epochs=1, max_epochs=1, module__hidden=(4,))
    with pytest.warns(UserWarning, match=r"6 row\(s\) of X_val stand in X"):
        clf.fit(X, y, X_val=rows[:6].astype(val_dtype), y_val=y[:6])


def test_raw_validation_rows_of_float16_are_told() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.warns(UserWarning, match="transform"):
        warn_of_traps((3000 * rows[:50]).astype(np.float16), rows[50:].astype(np.float16) / 10)

"""What used to be taken in silence, and broke or did nothing, is refused or said."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from skorch.dataset import Dataset as SkorchDataset
from skorch.history import History
from torch.utils.data import Dataset

from skreweight import ReweightedClassifier

R = np.random.RandomState(0)
Y = (R.rand(200) < 0.3).astype(int)
X = R.randn(200, 5).astype(np.float32) + Y[:, None]


def classifier(weighting: str = "hu", **parameters: Any) -> ReweightedClassifier:
    defaults = {"module__hidden": (4,), "warmup_epochs": 1, "max_epochs": 1, "random_state": 0}
    return ReweightedClassifier(weighting=weighting, **{**defaults, **parameters})


# ---------------------------------------------------------------- files of other data

OTHERS = {
    "columns": (np.c_[X, X], Y),
    "names": (pd.DataFrame(X, columns=list("vwxyz")), Y),
    "number of classes": (X, np.arange(200) % 3),
    "labels": (X, np.array(["no", "yes"])[Y]),
}


@pytest.mark.parametrize("case", OTHERS)
def test_the_weighting_of_other_data_is_refused_and_changes_nothing(case, tmp_path):
    classifier().fit(*OTHERS[case]).save_params(f_weighting=tmp_path / "w.pt", f_params=tmp_path / "p.pt")
    own = pd.DataFrame(X, columns=list("abcde")) if case == "names" else X
    net = classifier().fit(own, Y)
    proba = net.predict_proba(own)
    with pytest.raises(ValueError, match=r"f_weighting tells of other (columns|classes).*sklearn.base.clone"):
        net.load_params(f_params=tmp_path / "p.pt", f_weighting=tmp_path / "w.pt")
    np.testing.assert_array_equal(net.predict_proba(own), proba)
    assert clone(net).load_params(f_weighting=tmp_path / "w.pt", f_params=tmp_path / "p.pt") is None


# ---------------------------------------------------------------- parameters

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a negative class weight": (
        {"class_weight": {0: -1.0}},
        r"class_weight\[0\] must be a finite number above 0",
    ),
    "a class weight of 0": ({"class_weight": {0: 0.0, 1: 0.0}}, "leave out its rows"),
    "a class weight of NaN": ({"class_weight": {1: np.nan}}, "got nan"),
    "a class weight of text": ({"class_weight": {1: "2"}}, "got '2'"),
    "classes with doubles": ({"classes": [0, 1, 1]}, r"name each label once, got \[0, 1, 1\]: give \[0, 1\]"),
    "unsorted classes": ({"classes": [1, 0]}, r"sorted.*give \[0, 1\]"),
    "no classes": ({"classes": []}, "two labels or more"),
    "a dataset": ({"dataset": type("Own", (SkorchDataset,), {})}, "pass a torch Dataset as X"),
    "an optimiser's name": ({"optimizer": "Adam"}, "a class like torch.optim.Adam, got 'Adam'"),
    "an optimiser's object": (
        {"optimizer": torch.optim.Adam([torch.zeros(1)])},
        "a class like torch.optim.Adam",
    ),
    "an unknown device": ({"device": "tpu"}, r"device='tpu' cannot be used here.*device='auto'"),
    "no figures": ({"device": "meta"}, "device='meta' holds no figures"),
}
if not torch.cuda.is_available():
    REFUSED["a GPU that is not here"] = ({"device": "cuda"}, "device='cuda' cannot be used here")


@pytest.mark.parametrize("case", REFUSED)
def test_parameters_that_broke_a_fit_in_silence(case):
    parameters, message = REFUSED[case]
    net = classifier(**parameters)
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not net.initialized_


@pytest.mark.parametrize(
    "name",
    [
        "get_loss",
        "infer",
        "train_step",
        "train_step_single",
        "validation_step",
        "run_single_epoch",
        "fit_loop",
    ],
)
def test_methods_that_training_never_calls_cannot_be_overridden(name):
    kind = type("Own", (ReweightedClassifier,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(ValueError, match=rf"Own\.{name} would never be called"):
        kind().fit(X, Y)


def test_history_is_no_parameter():
    with pytest.raises(ValueError, match=r"load_params\(f_history="):
        ReweightedClassifier(history=History())


def test_other_classes_for_partial_fit():
    net = classifier().partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"classes=\[0, 1, 2\] are not those of the first call, \[0, 1\]"):
        net.partial_fit(X, Y, classes=[0, 1, 2])
    net.partial_fit(X, Y, classes=[1, 0])


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("scale", [1e308, 1e-300])
@pytest.mark.parametrize("weighting", ["none", "absgd", "hu"])
def test_sample_weights_of_any_scale(weighting, scale):
    weights = np.where(Y == 1, 0.5, 1.0)
    parameters = {"class_weight": "balanced"}
    one, other = (
        classifier(weighting, **parameters).fit(X, Y, sample_weight=w) for w in (weights, weights * scale)
    )
    np.testing.assert_allclose(other.predict_proba(X), one.predict_proba(X), rtol=1e-4)
    np.testing.assert_allclose(other.example_weights_, one.example_weights_, rtol=1e-4)
    assert np.isfinite(other.class_counts_).all()


def unbalanced() -> np.ndarray:
    return np.r_[np.flatnonzero(Y == 0)[:20], np.flatnonzero(Y == 1)[:9]]


@pytest.mark.parametrize("form", ["pair", "fit", "splitter"])
@pytest.mark.parametrize("weighting", ["ren", "hu", "ours", "two-phase"])
def test_validation_rows_that_are_not_balanced(weighting, form):
    held = unbalanced()
    left = np.delete(np.arange(200), held)
    parameters = {"pair": (X[held], Y[held]), "fit": None, "splitter": StratifiedKFold(5)}
    given = {"X_val": X[held], "y_val": Y[held]} if form == "fit" else {}
    with pytest.warns(UserWarning, match=r"not balanced: \d+ of class 0, \d+ of class 1"):
        classifier(weighting, validation_data=parameters[form]).fit(X[left], Y[left], **given)


@pytest.mark.parametrize("weighting", ["none", "absgd"])
def test_methods_that_learn_nothing_from_them_do_not_mind(weighting):
    held = unbalanced()
    left = np.delete(np.arange(200), held)
    classifier(weighting).fit(X[left], Y[left], X_val=X[held], y_val=Y[held])


@pytest.mark.parametrize("unit", ["datetime64[ns]", "timedelta64[ns]"])
@pytest.mark.parametrize("kind", ["frame", "array", "mixed frame"])
def test_moments_in_time_are_no_numbers(kind, unit):
    moments = np.arange(200).astype(unit).reshape(-1, 1)
    rows: Any = moments if kind == "array" else pd.DataFrame(moments, columns=["when"])
    if kind == "mixed frame":
        rows["x"] = X[:, 0]
    with pytest.raises(ValueError, match=r"moments in time.*TableEncoder"):
        classifier("none").fit(rows, Y)


def test_categories_of_integers_are_said():
    frame = pd.DataFrame(X, columns=list("abcde"))
    frame["kind"] = pd.Categorical(np.arange(200) % 3)
    net = classifier("none")
    with pytest.warns(UserWarning, match=r"'kind' of X is a category, and its levels are taken as numbers"):
        net.fit(frame, Y)
    net.predict(frame)  # once is enough


class Triples(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> Any:
        return X[i], X[i], Y[i]


def test_items_of_three_are_refused():
    with pytest.raises(ValueError, match="has 3 entries"):
        classifier("none").fit(Triples(), Y)

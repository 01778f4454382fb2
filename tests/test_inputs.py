"""What X and y may be, and the one clear sentence where they cannot be used."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from skreweight import ReweightedClassifier
from skreweight._rows.check import encode, labels_of, rows_of
from skreweight.weighting import WEIGHTINGS

NAMES = list(WEIGHTINGS)


def classifier(weighting: str = "none", **params: Any) -> ReweightedClassifier:
    defaults = {"warmup_epochs": 1, "max_epochs": 1, "random_state": 0, "batch_size": 16, "lr": 1e-2}
    if "module" not in params:
        defaults["module__hidden"] = (6,)
    return ReweightedClassifier(weighting=weighting, **{**defaults, **params})


@pytest.fixture
def X() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, size=(60, 4)).astype(np.float64)


@pytest.fixture
def y() -> np.ndarray:
    return np.tile([0, 0, 1], 20)


@pytest.fixture
def expected(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    return classifier().fit(X, y).predict_proba(X)


# ------------------------------------------------------------------ kinds of X


def _polars(X: np.ndarray) -> Any:
    polars = pytest.importorskip("polars")
    return polars.DataFrame({f"c{i}": column for i, column in enumerate(X.T)})


def _read_only(X: np.ndarray) -> np.ndarray:
    X = X.astype(np.float32)
    X.setflags(write=False)
    return X


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "float16": lambda X: X.astype(np.float16),
    "float32": lambda X: X.astype(np.float32),
    "int8": lambda X: X.astype(np.int8),
    "uint64": lambda X: X.astype(np.uint64),
    "object": lambda X: X.astype(object),
    "list": lambda X: X.tolist(),
    "Fortran order": np.asfortranarray,
    "every other row of a larger array": lambda X: np.repeat(X, 2, axis=0)[::2],
    "turned round": lambda X: X[::-1].copy()[::-1],
    "big-endian": lambda X: X.astype(">f8"),
    "read-only": _read_only,
    "DataFrame": lambda X: pd.DataFrame(X, columns=list("abcd")),
    "DataFrame of mixed numbers": lambda X: pd.DataFrame(
        {
            "a": X[:, 0].astype(np.int16),
            "b": X[:, 1].astype(np.float16),
            "c": X[:, 2],
            "d": X[:, 3].astype("u1"),
        }
    ),
    "nullable DataFrame": lambda X: pd.DataFrame(
        {
            "a": pd.array(X[:, 0].astype(int), dtype="Int64"),
            "b": pd.array(X[:, 1], dtype="Float64"),
            "c": pd.array(X[:, 2].astype(int), dtype="UInt8"),
            "d": pd.array(X[:, 3], dtype="Float32"),
        }
    ),
    "polars": _polars,
    "tensor": lambda X: torch.from_numpy(X),
    "float32 tensor": lambda X: torch.from_numpy(X).float(),
    "transposed tensor": lambda X: torch.from_numpy(X.T.copy()).T,
    "tensor with a gradient": lambda X: torch.from_numpy(X).requires_grad_(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same(
    kind: str, X: np.ndarray, y: np.ndarray, expected: np.ndarray
) -> None:
    given = KINDS[kind](X)
    clf = classifier().fit(given, y)
    np.testing.assert_array_equal(clf.predict_proba(given), expected)
    np.testing.assert_array_equal(clf.predict(given), expected.argmax(axis=1))
    assert clf.n_features_in_ == 4


@pytest.mark.parametrize("dtype", [bool, "boolean"])
def test_booleans_are_numbers(dtype: Any, X: np.ndarray, y: np.ndarray) -> None:
    frame = pd.DataFrame(X > 2, columns=list("abcd")).astype(dtype)
    as_numbers = classifier().fit((X > 2).astype(float), y).predict_proba((X > 2).astype(float))
    np.testing.assert_array_equal(classifier().fit(frame, y).predict_proba(frame), as_numbers)


@pytest.mark.parametrize("weighting", NAMES)
def test_a_read_only_frame_with_every_weighting(weighting: str, X: np.ndarray, y: np.ndarray) -> None:
    given = _read_only(X)
    before = given.copy()
    clf = classifier(weighting).fit(given, y)
    assert np.isfinite(clf.predict_proba(given)).all()
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("kind", ["ndarray", "tensor", "read-only"])
def test_float32_rows_are_not_copied(kind: str, X: np.ndarray) -> None:
    given = {"ndarray": lambda X: X, "tensor": torch.from_numpy, "read-only": _read_only}[kind](
        X.astype(np.float32)
    )
    seen, _ = rows_of(given, None, owner="Net", allow_nd=False)
    assert np.shares_memory(seen.numpy(), np.asarray(given))


# ------------------------------------------------------------------ memory-mapped files


def _mapped(path: Path, X: np.ndarray, order: str = "C") -> np.memmap:
    made = np.memmap(path, dtype=X.dtype, mode="w+", shape=X.shape, order=order)
    made[:] = X
    made.flush()
    return np.memmap(path, dtype=X.dtype, mode="r", shape=X.shape, order=order)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_mapped_rows_are_recognised_and_not_copied(tmp_path: Path, X: np.ndarray, order: str) -> None:
    given = _mapped(tmp_path / "x", X.astype(np.float32), order)
    seen, _ = rows_of(given, None, owner="Net", allow_nd=False)
    assert np.shares_memory(seen.numpy(), given)
    assert seen.is_memory_mapped


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("weighting", ["none", "ours"])
def test_fit_and_predict_from_a_file(
    tmp_path: Path, X: np.ndarray, y: np.ndarray, weighting: str, order: str
) -> None:
    given = _mapped(tmp_path / "x", X.astype(np.float32), order)
    in_memory = classifier(weighting).fit(X, y)
    np.testing.assert_array_equal(
        classifier(weighting).fit(given, y).predict_proba(given), in_memory.predict_proba(X)
    )


@pytest.mark.parametrize("options", [{}, {"train_on_validation": True}, {"validation_data": None}])
@pytest.mark.parametrize("weighting", ["none", "ours"])
def test_short_floats_cast_batch_by_batch_give_the_same(
    X: np.ndarray, y: np.ndarray, weighting: str, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = X.astype(np.float16)
    whole = classifier(weighting, **options).fit(short, y)
    monkeypatch.setattr("skreweight._rows.place.SHORT_LIMIT", 0)
    by_batch = classifier(weighting, **options).fit(short, y)
    np.testing.assert_array_equal(by_batch.predict_proba(short), whole.predict_proba(short))
    np.testing.assert_array_equal(by_batch.example_weights_, whole.example_weights_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_copy_of_the_whole_file(tmp_path: Path, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that NumPy and torch take in fit and predict stays far below the size of the file."""
    monkeypatch.setattr("skreweight._rows.place.MEMORY_MAP_LIMIT", 2**20)
    shape = (20_000, 200)
    rows = np.random.default_rng(0).normal(size=shape).astype(dtype)
    y = (rows[:, 0] > 0).astype(int)
    given = _mapped(tmp_path / "x", rows)
    del rows
    largest: list[int] = []
    clf = classifier(batch_size=256, warmup_epochs=0, iterator_train__shuffle=True)
    tracemalloc.start()
    with _LargestTensor(largest):
        clf.fit(given, y)
        clf.predict(given)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < given.nbytes / 3
    assert max(largest) < given.nbytes / 3


class _LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the size of every tensor that an operation makes, views of given memory aside."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes = sizes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        made = out if isinstance(out, tuple | list) else [out]
        self.sizes += [
            t.untyped_storage().nbytes()
            for t in made
            if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in given
        ]
        return out


# ------------------------------------------------------------------ more than tables


class Conv(nn.Module):
    """Told the channels and classes by the estimator."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_features, 3, 3)
        self.head = nn.Linear(3, n_classes)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(torch.relu(self.conv(X)).mean((2, 3)))


class Images(Dataset):
    """Items are (image, label) pairs; nothing else is known about it."""

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.X[i], self.y[i]


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 2, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("weighting", NAMES)
@pytest.mark.parametrize("kind", ["array", "float64", "tensor", "dataset", "labels in a dataset", "loader"])
def test_images(weighting: str, kind: str, images: np.ndarray, y: np.ndarray) -> None:
    params: dict[str, Any] = {"module": Conv}
    X: Any = images
    labels: Any = y
    if kind == "float64":
        X = images.astype(np.float64)
    elif kind == "tensor":
        X = torch.from_numpy(images)
    elif kind == "dataset":
        X = Images(images, y)
    elif kind == "labels in a dataset":
        X, labels = TensorDataset(torch.from_numpy(images), torch.from_numpy(y)), None
    elif kind == "loader":
        params |= {"iterator_train": DataLoader, "iterator_train__num_workers": 0}
    clf = classifier(weighting, **params).fit(X, labels)
    assert clf.n_features_in_ == 2
    probabilities = clf.predict_proba(X)
    assert probabilities.shape == (60, 2)
    np.testing.assert_allclose(clf.predict_proba(images), probabilities, rtol=1e-5)
    assert len(clf.example_weights_) == 60


@pytest.mark.parametrize("weighting", ["none", "two-phase", "hu", "ours"])
def test_a_dataset_without_shuffling_is_the_array(weighting: str, images: np.ndarray, y: np.ndarray) -> None:
    params = {"module": Conv, "iterator_train__shuffle": False}
    from_array = classifier(weighting, **params).fit(images, y)
    from_dataset = classifier(weighting, **params).fit(Images(images, y), None)
    np.testing.assert_allclose(
        from_array.predict_proba(images), from_dataset.predict_proba(images), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(
        np.isnan(from_array.example_weights_), np.isnan(from_dataset.example_weights_)
    )


@pytest.mark.parametrize("weighting", ["none", "ours"])
def test_a_dataset_of_float64_items(weighting: str, X: np.ndarray, y: np.ndarray) -> None:
    """As NumPy gives them: cast to the dtype of the module, in training and prediction."""
    clf = classifier(weighting).fit(Images(X, y), y)
    np.testing.assert_allclose(clf.predict_proba(Images(X, y)), clf.predict_proba(X), rtol=1e-6)


def test_a_dataset_needs_no_sizes(X: np.ndarray, y: np.ndarray) -> None:
    assert classifier().fit(Images(X.astype(np.float32), y)).n_features_in_ == 4


def test_validation_rows_as_a_dataset(images: np.ndarray, y: np.ndarray) -> None:
    other = Images(images[:12] + 1, y[:12])
    clf = classifier("hu", module=Conv).fit(Images(images, y), None, X_val=other, y_val=y[:12])
    assert clf.validation_indices_ is None
    assert "valid_loss" in clf.history_[-1]


class TwoInputs(nn.Module):
    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.head = nn.Linear(3 + 2, n_classes)

    def forward(self, words: Tensor, numbers: Tensor) -> Tensor:
        return self.head(torch.cat([self.words(words).mean(1), numbers], dim=1))


@pytest.mark.parametrize("weighting", NAMES)
def test_a_dict_of_arrays(weighting: str, X: np.ndarray, y: np.ndarray) -> None:
    given = {"words": X[:, :2].astype(np.int64), "numbers": X[:, 2:]}
    other = {name: value[:12] for name, value in given.items()}
    clf = classifier(weighting, module=TwoInputs)
    assert clf.fit(given, y).predict_proba(given).shape == (60, 2)
    assert clf.fit(given, y, X_val=other, y_val=y[:12]).predict(other).shape == (12,)
    assert not hasattr(clf, "n_features_in_")
    with pytest.raises(ValueError, match="X_val and y_val must have equally many rows, got 12 and 10"):
        clf.fit(given, y, X_val=other, y_val=y[:10])


# ------------------------------------------------------------------ labels

LABELS: dict[str, Any] = {
    "text": ["b", "a"],
    "long text": ["rather a long label", "a"],
    "booleans": [True, False],
    "minus one and one": [-1, 1],
    "gaps": [7, 1000],
    "float": [0.0, 2.0],
    "int8": np.array([3, 1], dtype=np.int8),
    "uint8": np.array([0, 255], dtype=np.uint8),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_dtype(kind: str, X: np.ndarray, y: np.ndarray) -> None:
    labels = np.asarray(LABELS[kind])[y]
    clf = classifier("hu").fit(X, labels)
    np.testing.assert_array_equal(clf.classes_, np.unique(labels))
    assert clf.predict(X).dtype == labels.dtype
    assert set(clf.predict(X)) <= set(labels)
    assert 0 <= clf.score(X, labels) <= 1


CONTAINERS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": list,
    "object array": lambda y: y.astype(object),
    "Series": lambda y: pd.Series(y, index=np.arange(len(y)) + 100),
    "categorical": lambda y: pd.Series(y).astype("category"),
    "string dtype": lambda y: pd.Series(y, dtype="string"),
    "read-only": lambda y: np.frombuffer(y.tobytes(), dtype=y.dtype),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_labels_in_any_container(container: str, X: np.ndarray, y: np.ndarray) -> None:
    labels = np.array(["no", "yes"])[y]
    plain = classifier().fit(X, labels)
    clf = classifier().fit(X, CONTAINERS[container](labels))
    assert clf.classes_.tolist() == ["no", "yes"]
    np.testing.assert_array_equal(clf.predict(X), plain.predict(X))


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "UInt8"])
def test_nullable_labels_keep_their_kind(dtype: str, X: np.ndarray, y: np.ndarray) -> None:
    clf = classifier().fit(X, pd.Series(y).astype(dtype))
    assert clf.classes_.tolist() == [0, 1]
    assert clf.classes_.dtype.kind == {"Int64": "i", "boolean": "b", "UInt8": "u"}[dtype]


def test_labels_as_a_tensor(X: np.ndarray, y: np.ndarray) -> None:
    assert classifier().fit(X, torch.from_numpy(y)).classes_.tolist() == [0, 1]


def test_a_column_of_labels_is_taken_with_scikit_learns_warning(X: np.ndarray, y: np.ndarray) -> None:
    with pytest.warns(match="column-vector y was passed"):
        classifier().fit(X, y.reshape(-1, 1))


def test_three_classes_of_text(X: np.ndarray) -> None:
    labels = np.array(["a", "b", "c"])[np.arange(60) % 3]
    clf = classifier("ours").fit(X, labels)
    assert clf.predict_proba(X).shape == (60, 3)
    assert clf.decision_function(X).shape == (60, 3)


# ------------------------------------------------------------------ what cannot be used


def _with(X: np.ndarray, value: float) -> np.ndarray:
    X = X.copy()
    X[3, 1] = value
    return X


BAD: dict[str, tuple[Callable[[np.ndarray], Any], type[Exception], str]] = {
    "NaN": (lambda X: _with(X, np.nan), ValueError, "Input X contains NaN"),
    "infinity": (lambda X: _with(X, np.inf), ValueError, "Input X contains infinity"),
    "too large for float32": (lambda X: _with(X, 1e300), ValueError, "too large for dtype..float32"),
    "NA": (lambda X: pd.DataFrame(X).astype("Float64").mask(X == 1), ValueError, "Input X contains NaN"),
    "NaN in a tensor": (lambda X: torch.from_numpy(_with(X, np.nan)), ValueError, "NaN or infinity: impute"),
    "sparse": (sparse.csr_matrix, TypeError, "Sparse data was passed"),
    "sparse array": (sparse.coo_array, TypeError, "Sparse data was passed"),
    "sparse by keys": (sparse.dok_matrix, TypeError, "Sparse data was passed"),
    "one dimension": (lambda X: X[:, 0], ValueError, r"(?s)Expected 2D array, got 1D array.*Reshape"),
    "one dimension, tensor": (lambda X: torch.from_numpy(X)[:, 0], ValueError, "Expected 2D array.*reshape"),
    "images without a module": (lambda X: X.reshape(60, 2, 2), ValueError, "Found array with dim 3"),
    "no column": (lambda X: X[:, :0], ValueError, "0 feature"),
    "no column, tensor": (lambda X: torch.from_numpy(X)[:, :0], ValueError, "0 feature"),
    "text": (lambda X: X.astype(str).astype(object) + "?", ValueError, "X holds text.*OneHotEncoder"),
    "text in a frame": (
        lambda X: pd.DataFrame({"a": X[:, 0], "colour": "red"}),
        ValueError,
        "Column 'colour' of X holds text where numbers belong.*'red'.*OneHotEncoder",
    ),
    "complex numbers": (lambda X: X + 1j, ValueError, "Complex data not supported"),
    "another number of rows": (lambda X: X[:-1], ValueError, r"inconsistent numbers of samples: \[59, 60\]"),
    "another number of rows, tensor": (
        lambda X: torch.from_numpy(X)[:-1],
        ValueError,
        r"inconsistent numbers of samples: \[59, 60\]",
    ),
    "None": (lambda X: None, ValueError, "Expected 2D array, got scalar"),
    "an empty mapping": (lambda X: {}, ValueError, "empty mapping"),
    "a mapping for the MLP": (lambda X: {"X": X}, ValueError, "a mapping needs a module of your own"),
    "a mapping of text": (lambda X: {"X": X.astype(str)}, ValueError, r"X\['X'\] holds no numbers"),
    "a mapping with NaN": (lambda X: {"X": _with(X, np.nan)}, ValueError, r"X\['X'\] contains NaN"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_leave_the_estimator_as_it_was(case: str, X: np.ndarray, y: np.ndarray) -> None:
    spoil, error, words = BAD[case]
    clf = classifier("ours").fit(X, y)
    before, state = clf.predict_proba(X), dict(clf.__dict__)
    with pytest.raises(error, match=words):
        clf.fit(spoil(X), y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.__dict__ == state


def test_no_row_at_all(X: np.ndarray, y: np.ndarray) -> None:
    for empty in (X[:0], torch.from_numpy(X)[:0], pd.DataFrame(X)[:0]):
        with pytest.raises(ValueError, match=r"0 sample\(s\)"):
            classifier().fit(empty, y[:0])
    with pytest.raises(ValueError, match="Dataset is empty"):
        classifier().fit(Images(X[:0], y[:0]))


BAD_LABELS: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "one class": (np.zeros_like, "at least two classes, the data has one class: 0"),
    "one class of text": (
        lambda y: np.full(len(y), "a"),
        "at least two classes, the data has one class: 'a'",
    ),
    "numbers to regress on": (lambda y: y + 0.5 * np.arange(len(y)) / 7, "Unknown label type: continuous"),
    "NaN": (lambda y: np.where(np.arange(60) == 3, np.nan, y), "y contains NaN, None or infinity.*drop it"),
    "infinity": (
        lambda y: np.where(np.arange(60) == 3, np.inf, y),
        "y contains NaN, None or infinity.*drop it",
    ),
    "None": (lambda y: [None, *y[1:].astype(str)], "y contains NaN, None or infinity.*drop it"),
    "NA": (lambda y: pd.Series([pd.NA, *y[1:]], dtype="Int64"), "y contains NaN, None or infinity.*drop it"),
    "NaN among text": (
        lambda y: pd.Series([np.nan, *y[1:].astype(str)]),
        "y contains NaN, None or infinity.*drop it",
    ),
    "text among numbers": (lambda y: np.array([*y[1:], "a"], dtype=object), "more than one kind"),
    "two columns": (lambda y: np.stack([y, y], axis=1), "y should be a 1d array"),
    "nothing": (lambda y: None, "fit requires y|requires y to be passed"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_labels_leave_the_estimator_as_it_was(case: str, X: np.ndarray, y: np.ndarray) -> None:
    spoil, words = BAD_LABELS[case]
    clf = classifier("hu").fit(X, y)
    before, state = clf.predict_proba(X), dict(clf.__dict__)
    with pytest.raises(ValueError, match=words):
        clf.fit(X, spoil(y))
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert clf.__dict__ == state


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
@pytest.mark.parametrize("kind", ["ndarray", "tensor"])
def test_a_wrong_number_of_columns(method: str, kind: str, X: np.ndarray, y: np.ndarray) -> None:
    clf = classifier().fit(X, y)
    given = X[:, :3] if kind == "ndarray" else torch.from_numpy(X[:, :3])
    with pytest.raises(
        ValueError, match="X has 3 features, but ReweightedClassifier is expecting 4 features"
    ):
        getattr(clf, method)(given)


def test_partial_fit_with_bad_rows_changes_nothing(X: np.ndarray, y: np.ndarray) -> None:
    clf = classifier("hu").fit(X, y)
    before = clf.predict_proba(X)
    for spoiled, labels in ((X[:, :3], y), (_with(X, np.nan), y), (X, y + 5)):
        with pytest.raises(ValueError, match=r"features|NaN|none of the classes"):
            clf.partial_fit(spoiled, labels)
        np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_nan_is_mended_by_an_imputer_before_it(X: np.ndarray, y: np.ndarray) -> None:
    pipe = make_pipeline(SimpleImputer(), classifier())
    assert pipe.fit(_with(X, np.nan), y).predict(_with(X, np.nan)).shape == (60,)


# ------------------------------------------------------------------ parameters that cannot be

MISSPELT: dict[str, tuple[dict[str, Any], str]] = {
    "a component without its second underscore": ({"weighting_lam": 1.0}, "did you mean weighting__lam[?]"),
    "of the module": ({"module_hidden": (3,)}, "did you mean module__hidden[?]"),
    "of the module's class": (
        {"module__hiden": (3,)},
        "MLP has no parameter 'hiden': did you mean module__hidden[?]",
    ),
    "of the weighting": (
        {"weighting__dekay": 2.0},
        "'hu' has no parameter 'dekay': did you mean weighting__decay[?]",
    ),
    "of another weighting": ({"weighting__lam": 2.0}, "belongs to 'absgd': set it with that method only"),
    "of the optimiser": ({"optimizer__wieght_decay": 0.1}, "did you mean optimizer__weight_decay[?]"),
    "of the criterion": ({"criterion__label_smothing": 0.1}, "did you mean criterion__label_smoothing[?]"),
    "of the batches": ({"iterator_train__shufle": False}, "iterator_train__shufle"),
    "of the estimator": (
        {"max_epoch": 3},
        "'max_epoch' for ReweightedClassifier: did you mean max_epochs[?]",
    ),
    "a component": ({"modul__hidden": (3,)}, "did you mean module__hidden[?]"),
    "nothing like it": ({"xyzzy": 3}, "Invalid parameter 'xyzzy'"),
}


@pytest.mark.parametrize("case", MISSPELT)
def test_misspelt_parameters_are_named(case: str, X: np.ndarray, y: np.ndarray) -> None:
    params, words = MISSPELT[case]
    with pytest.raises(ValueError, match=words):
        classifier("hu", **params).fit(X, y)


@pytest.mark.parametrize(
    "params", [{"weighting_lam": 1.0}, {"module_hidden": (3,)}, {"weighting__dekay": 2.0}, {"max_epoch": 1}]
)
def test_set_params_refuses_misspelt_names(params: dict[str, Any]) -> None:
    clf = ReweightedClassifier()
    before = clf.get_params()
    with pytest.raises(ValueError, match="Invalid parameter"):
        clf.set_params(**params)
    assert set(clf.get_params()) == set(before)


class MeanLoss(nn.Module):
    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


IMPOSSIBLE: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown weighting": (
        {"weighting": "hue"},
        ValueError,
        "Unknown weighting, got 'hue': choose one of 'none'",
    ),
    "no weighting": ({"weighting": 3}, TypeError, "weighting must be a name"),
    "negative epochs": (
        {"max_epochs": -1},
        ValueError,
        "'max_epochs' parameter of ReweightedClassifier must be",
    ),
    "no batch": ({"batch_size": 0}, ValueError, "'batch_size' parameter of ReweightedClassifier must be"),
    "a step size of text": ({"lr": "0.1"}, ValueError, "'lr' parameter of ReweightedClassifier must be"),
    "a value of the weighting": ({"weighting__decay": -1.0}, ValueError, "'decay' parameter of Hu must be"),
    "callbacks": ({"callbacks": 3}, ValueError, "'callbacks' parameter of ReweightedClassifier must be"),
    "class weights": ({"class_weight": "balance"}, ValueError, "'class_weight' parameter"),
    "a class without rows": (
        {"class_weight": {5: 1.0}},
        ValueError,
        "class_weight names 5, which is none of",
    ),
    "train_split": ({"train_split": 5}, ValueError, "give validation_data"),
    "an option of the loader": (
        {"iterator_train__num_workers": 0},
        ValueError,
        "needs iterator_train=torch.utils.data.DataLoader",
    ),
    "an empty epoch": (
        {"batch_size": 1000, "iterator_train__drop_last": True},
        ValueError,
        "The epoch had no batch.*drop_last",
    ),
    "a frozen module": ({"module": nn.Identity}, ValueError, "nothing to train|got an empty parameter list"),
    "a criterion that averages": ({"criterion": MeanLoss}, ValueError, "weighting needs one loss per row"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_parameters_leave_the_estimator_as_it_was(case: str, X: np.ndarray, y: np.ndarray) -> None:
    params, error, words = IMPOSSIBLE[case]
    clf = classifier("hu").fit(X, y)
    before, history = clf.predict_proba(X), len(clf.history_)
    for name, value in params.items():  # as a user's attribute: set_params may refuse
        setattr(clf, name, value)
    with pytest.raises(error, match=words):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert len(clf.history_) == history


class TooFewOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, X: Tensor) -> Tensor:
        return self.layer(X)


@pytest.mark.parametrize("weighting", ["none", "ours"])
def test_a_module_that_does_not_fit_the_data_leaves_the_estimator_as_it_was(
    weighting: str, X: np.ndarray, y: np.ndarray
) -> None:
    clf = classifier(weighting).fit(X, y)
    before = clf.predict_proba(X)
    del clf.module__hidden
    clf.module = TooFewOutputs
    with pytest.raises(ValueError, match="shapes cannot be multiplied"):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)


class FailIn(Callback):
    """As a callback of a user's that breaks in some epoch."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) == self.epoch:
            raise RuntimeError("broken")


def test_a_fit_that_breaks_in_its_first_epoch_is_undone_and_later_is_kept(
    X: np.ndarray, y: np.ndarray
) -> None:
    clf = classifier("hu").fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(callbacks=[FailIn(1)], random_state=1)
    with pytest.raises(RuntimeError, match="broken"):
        clf.fit(X, y)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    clf.set_params(callbacks=[FailIn(2)])
    with pytest.raises(RuntimeError, match="broken"):
        clf.fit(X, y)
    assert not np.array_equal(clf.predict_proba(X), before)


def test_a_fit_that_fails_leaves_an_unfitted_estimator_unfitted(X: np.ndarray, y: np.ndarray) -> None:
    clf = classifier(class_weight={5: 1.0})
    with pytest.raises(ValueError, match="class_weight names 5"):
        clf.fit(X, y)
    with pytest.raises(NotFittedError):
        clf.predict(X)
    clf.set_params(class_weight=None).fit(X, y).predict(X)


@pytest.mark.filterwarnings("ignore:The classes' numbers of rows are corrected for twice:UserWarning")
@pytest.mark.parametrize("weighting", NAMES)
def test_partial_fit_on_rows_that_lack_a_class(weighting: str, X: np.ndarray, y: np.ndarray) -> None:
    """As chunks of a stream may; where validation rows are needed, they must be given."""
    val = {"X_val": X[:12] + 0.5, "y_val": y[:12]} if WEIGHTINGS[weighting].needs_validation else {}
    clf = classifier(weighting, class_weight="balanced")
    clf.partial_fit(X[y == 0], y[y == 0], classes=[0, 1], **val)
    assert np.isfinite(clf.predict_proba(X)).all()
    clf.partial_fit(X, y, **val)
    assert clf.classes_.tolist() == [0, 1]


# ------------------------------------------------------------------ the pieces


def test_encode_against_a_loop() -> None:
    classes = np.array(["a", "b", "d"])
    y = np.array(["d", "a", "a", "b"])
    assert encode(y, classes).tolist() == [classes.tolist().index(label) for label in y]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["a", "c"], ["a", "b"]),
        ([1, 2], ["a", "b"]),
        (["a", "b"], [1, 2]),
        ([0, 5], [0, 1]),
        ([0.5, 1.0], [0, 1]),
    ],
)
def test_encode_refuses_unknown_labels(y: list[Any], classes: list[Any]) -> None:
    for dtype in (None, object):
        with pytest.raises(ValueError, match=r"y_val contains the label .*, which is none of the classes \["):
            encode(np.array(y, dtype=dtype), np.array(classes), "y_val")


@pytest.mark.parametrize("name", ["targets", "labels", "y"])
def test_labels_of_a_dataset_by_its_attribute(name: str) -> None:
    dataset = Images(np.zeros((3, 2)), None)
    dataset.__dict__.pop("y")
    setattr(dataset, name, [2, 0, 1])
    assert labels_of(dataset, None).tolist() == [2, 0, 1]


def test_labels_of_a_part_of_a_dataset_are_read_without_its_items() -> None:
    class OnlyLabels(Dataset):
        targets = torch.tensor([5, 6, 7, 8])

    part = Subset(Subset(OnlyLabels(), [3, 1, 0]), [2, 0])
    assert labels_of(part, None).tolist() == [5, 8]


def test_a_dataset_without_labels() -> None:
    class OnlyRows(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, i: int) -> Tensor:
            return torch.zeros(2)

    with pytest.raises(ValueError, match="gives no labels: its items must be"):
        classifier().fit(OnlyRows())

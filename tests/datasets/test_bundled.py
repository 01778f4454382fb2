import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from skreweight.datasets import load_bundled

SETS = {"digits": (load_digits, 8), "breast_cancer": (load_breast_cancer, 0)}


@pytest.mark.parametrize("name", SETS)
def test_rows_are_scikit_learns_own(name):
    load, rare = SETS[name]
    original = load()
    X, y = load_bundled(name, return_X_y=True, as_frame=False)
    rows = {
        row.tobytes(): label for row, label in zip(original.data.astype("f4"), original.target, strict=True)
    }
    assert all(
        ("pos" if rows[x.tobytes()] == rare else "neg") == label for x, label in zip(X, y, strict=True)
    )
    assert (y == "neg").sum() == (original.target != rare).sum()
    # No row twice: each comes as often as in the original, or less often.
    kept, counts = np.unique(X, axis=0, return_counts=True)
    every, limits = np.unique(original.data.astype("f4"), axis=0, return_counts=True)
    limit = {row.tobytes(): count for row, count in zip(every, limits, strict=True)}
    assert all(count <= limit[row.tobytes()] for row, count in zip(kept, counts, strict=True))


@pytest.mark.parametrize(("name", "n_rare"), [("digits", 60), ("breast_cancer", 30)])
def test_number_of_rare_rows(name, n_rare):
    assert (load_bundled(name).target == "pos").sum() == n_rare
    assert (load_bundled(name, n_rare=7).target == "pos").sum() == 7


@pytest.mark.parametrize("name", SETS)
def test_bunch_has_the_form_of_the_aps_data(name):
    bunch = load_bundled(name)
    assert set(bunch) == {
        "data", "target", "frame", "feature_names", "target_names", "source", "DESCR",
    }  # fmt: skip
    assert isinstance(bunch.data, pd.DataFrame) and set(bunch.data.dtypes) == {np.dtype(np.float32)}
    assert bunch.target.name == "class" and bunch.target_names == ["neg", "pos"]
    assert list(bunch.frame.columns) == [*bunch.feature_names, "class"]
    assert not bunch.frame.isna().any(axis=None)
    assert str((bunch.target == "pos").sum()) in bunch.DESCR
    assert bunch.source == [f"sklearn.datasets.load_{name}"]


@pytest.mark.parametrize("name", SETS)
def test_train_and_test_are_the_whole(name):
    every, train, test = (load_bundled(name, subset=subset).frame for subset in ("all", "train", "test"))
    parts = pd.concat([train, test])
    columns = list(every.columns)
    pd.testing.assert_frame_equal(
        parts.sort_values(columns, ignore_index=True), every.sort_values(columns, ignore_index=True)
    )
    assert len(test) == pytest.approx(len(every) / 3, abs=1)
    assert (test["class"] == "pos").sum() == (every["class"] == "pos").sum() // 3


def test_seed():
    def values(seed):
        return load_bundled(as_frame=False, return_X_y=True, random_state=seed)[0]

    np.testing.assert_array_equal(values(0), load_bundled(as_frame=False).data)
    assert not np.array_equal(values(0), values(1))


@pytest.mark.parametrize("name", SETS)
def test_arrays_may_be_written_to(name):
    bunch = load_bundled(name, as_frame=False)
    assert bunch.frame is None and isinstance(bunch.target, np.ndarray)
    assert bunch.data.flags.writeable and bunch.target.flags.writeable


def test_too_many_rare_rows():
    with pytest.raises(ValueError, match=r"'pos' has 174 rows .* 175"):
        load_bundled(n_rare=175)


@pytest.mark.parametrize(("argument", "value"), [("name", "iris"), ("subset", "valid")])
def test_unknown_choice(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be one of"):
        load_bundled(**{argument: value})

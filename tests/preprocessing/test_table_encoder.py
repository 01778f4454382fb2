"""Tables as they come: every kind of column against a slow twin, and what may not fail or must."""

import datetime as dt
import decimal
import pickle
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler, TargetEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from skreweight import ReweightedClassifier
from skreweight.modules import TableNet
from skreweight.preprocessing import TableEncoder

N = 60


@parametrize_with_checks([TableEncoder(), TableEncoder(high_cardinality="frequent", dtype=np.float32)])
def test_check_estimator(estimator: TableEncoder, check: Any) -> None:
    check(estimator)


def messy(n: int = N) -> pd.DataFrame:
    """A frame with a column of every kind; every third column has gaps."""
    rng = np.random.default_rng(0)
    ints = np.arange(n)
    return pd.DataFrame(
        {
            "number": rng.normal(size=n),
            "with gaps": np.where(ints % 7 == 0, np.nan, rng.normal(size=n)),
            "nullable": pd.array([None if i % 9 == 0 else i for i in range(n)], dtype="Int64"),
            "decimal": [decimal.Decimal(i) / 4 for i in range(n)],
            "boolean": rng.random(n) < 0.5,
            "nullable boolean": pd.array(
                [None if i % 8 == 0 else i % 3 == 0 for i in range(n)], dtype="boolean"
            ),
            "object boolean": pd.Series([None if i % 8 == 1 else i % 3 == 0 for i in range(n)], dtype=object),
            "category": pd.Categorical(ints % 3 + 7),
            "string": np.array(["a", "b", None] * (n // 3), dtype=object),
            "levels": [f"level {i % 25}" for i in range(n)],
            "date": pd.date_range("2020-01-30", periods=n, freq="7h"),
            "zone": pd.date_range("2020-01-30", periods=n, freq="31D", tz="Europe/Paris"),
            "iso": [f"2021-0{1 + i % 3}-1{i % 7}" for i in range(n)],
            "python date": [None if i == 3 else dt.date(2020, 1, 1 + i % 20) for i in range(n)],
            "period": pd.period_range("2020-01", periods=n, freq="M"),
            "duration": pd.to_timedelta(ints, unit="h"),
            "mixed": [1, "a", None, 2.5] * (n // 4),
            "constant": 7,
        }
    )


def named(encoder: TableEncoder, frame: Any) -> pd.DataFrame:
    return pd.DataFrame(encoder.transform(frame), columns=encoder.get_feature_names_out())


def encoded_slowly(frame: pd.DataFrame) -> dict[str, list[float]]:
    """Return what `messy` should become, value by value, before columns that do not vary are left out."""
    out: dict[str, list[float]] = {}

    def fill(name: str, values: Sequence[float | None], filler: float, marked: bool = True) -> None:
        out[name] = [filler if v is None else float(v) for v in values]
        if marked:
            out[f"missingindicator_{name}"] = [float(v is None) for v in values]

    for name in frame:
        values = [None if pd.isna(v) else v for v in frame[name].astype(object)]
        present = [v for v in values if v is not None]
        if name in ("number", "with gaps", "nullable", "decimal", "constant"):
            fill(
                name,
                [None if v is None else float(v) for v in values],
                float(np.median([float(v) for v in present])),
            )
        elif "boolean" in name:
            fill(name, values, float(sum(present) * 2 > len(present)))
        elif name == "duration":
            fill(name, [v.total_seconds() for v in values], 0.0)
        elif name in ("category", "string", "mixed"):
            for level in {str(v) for v in present}:
                out[f"{name}_{level}"] = [float(str(v) == level) for v in values]
            out[f"{name}_nan"] = [float(v is None) for v in values]
        elif name != "levels":
            stamps = [
                None
                if v is None
                else (v.to_timestamp() if name == "period" else pd.Timestamp(v)).tz_localize(None)
                for v in values
            ]
            first = min(s for s in stamps if s is not None)
            for part in ("year", "month", "day", "hour"):
                parts = [None if s is None else getattr(s, part) for s in stamps]
                fill(
                    f"{name}_{part}",
                    parts,
                    float(np.median([p for p in parts if p is not None])),
                    marked=False,
                )
            for part, of in (
                ("weekday", lambda s: s.weekday()),
                ("total_seconds", lambda s, first=first: (s - first).total_seconds()),
            ):
                parts = [None if s is None else of(s) for s in stamps]
                fill(
                    f"{name}_{part}",
                    parts,
                    float(np.median([p for p in parts if p is not None])),
                    marked=False,
                )
            out[f"missingindicator_{name}"] = [float(s is None) for s in stamps]
    return out


class TestEveryKind:
    def test_equals_the_slow_twin(self) -> None:
        frame = messy()
        slow = {name: v for name, v in encoded_slowly(frame).items() if len(set(v)) > 1}
        encoder = TableEncoder(high_cardinality="drop").fit(frame)
        fast = named(encoder, frame)
        assert set(fast) == set(slow)
        for name in fast:
            np.testing.assert_allclose(fast[name], slow[name], rtol=1e-12, atol=1e-6, err_msg=name)

    def test_kinds(self) -> None:
        kinds = TableEncoder(high_cardinality="drop").fit(messy()).kinds_
        of = {kind: {name for name, k in kinds.items() if k == kind} for kind in set(kinds.values())}
        assert of == {
            "number": {"number", "with gaps", "nullable", "decimal", "constant"},
            "boolean": {"boolean", "nullable boolean", "object boolean"},
            "category": {"category", "string", "levels", "mixed"},
            "date": {"date", "zone", "iso", "python date", "period"},
            "duration": {"duration"},
        }

    def test_numbers_come_first(self) -> None:
        encoder = TableEncoder(high_cardinality="drop").fit(messy())
        distinct = [len(np.unique(column)) for column in encoder.transform(messy()).T]
        n = encoder.n_numeric_
        assert 0 < n < len(distinct)
        assert min(distinct[:n]) > 2 and set(distinct[n:]) == {2}

    def test_polars_equals_pandas(self) -> None:
        frame = messy().drop(columns=["period", "mixed", "decimal"])
        columns = {
            name: pl.Series(name, [None if pd.isna(v) else v for v in frame[name].astype(object)])
            for name in frame
        }
        columns["category"] = columns["category"].cast(pl.String).cast(pl.Categorical)
        columns["iso"] = columns["iso"].cast(pl.Enum(sorted(set(frame["iso"]))))
        frame["iso"] = frame["iso"].astype("category")
        table = pl.DataFrame(columns)
        one, other = (TableEncoder(high_cardinality="frequent").fit(X) for X in (frame, table))
        assert one.kinds_ == other.kinds_
        assert other.feature_names_in_.tolist() == list(frame)
        assert one.get_feature_names_out().tolist() == other.get_feature_names_out().tolist()
        np.testing.assert_array_equal(one.transform(frame), other.transform(table))

    def test_other_frames_come_through_to_pandas(self) -> None:
        class Table:
            columns = ("a",)
            shape = (4, 1)

            def to_pandas(self) -> pd.DataFrame:
                return pd.DataFrame({"a": [1.0, 2.0, 3.0, 5.0]})

            def __len__(self) -> int:
                return 4

        assert TableEncoder().fit_transform(Table()).tolist() == [[1.0], [2.0], [3.0], [5.0]]

    def test_arrays_and_lists(self) -> None:
        rows = [[1.5, "a", True], [None, "b", False], [3.0, "a", None]]
        array = np.array(rows, dtype=object)
        encoder = TableEncoder().fit(rows)
        assert encoder.kinds_ == {"x0": "number", "x1": "category", "x2": "boolean"}
        np.testing.assert_array_equal(encoder.transform(rows), TableEncoder().fit_transform(array))
        assert TableEncoder().fit(np.array([["1", "2"], ["2", "3"]])).kinds_ == {
            "x0": "category",
            "x1": "category",
        }
        numbers = np.random.default_rng(0).normal(size=(9, 3))
        assert np.array_equal(TableEncoder().fit_transform(numbers), numbers)

    @pytest.mark.parametrize("name", ["date", "duration", "string", "nullable boolean", "with gaps"])
    def test_a_table_of_one_column(self, name: str) -> None:
        X = TableEncoder().fit_transform(messy()[[name]])
        assert X.shape[0] == N and X.shape[1] >= 1 and np.isfinite(X).all()

    def test_a_level_is_the_same_whatever_its_dtype(self) -> None:
        encoder = TableEncoder().fit(pd.DataFrame({"a": pd.Categorical([1, 2, 3])}))
        for column in (
            [3, 1],
            [3.0, 1.0],
            ["3", "1"],
            pd.Categorical([3, 1]),
            pd.array([3, 1], dtype="Int64"),
        ):
            assert encoder.transform(pd.DataFrame({"a": column})).tolist() == [[0, 0, 1], [1, 0, 0]]

    def test_gaps_in_numbers_are_marked_only_where_fit_saw_some(self) -> None:
        frame = pd.DataFrame({"a": [1.0, None, 2.0, 9.0], "b": [1.0, 5.0, 2.0, 9.0]})
        encoder = TableEncoder().fit(frame)
        assert encoder.get_feature_names_out().tolist() == ["a", "b", "missingindicator_a"]
        new = encoder.transform(pd.DataFrame({"a": [None, 3.0], "b": [4.0, None]}))
        assert new.tolist() == [[2.0, 4.0, 1.0], [3.0, 3.5, 0.0]]

    def test_a_column_of_one_value_and_gaps_tells_by_its_gaps(self) -> None:
        encoder = TableEncoder().fit(pd.DataFrame({"a": [4.0, None, 4.0], "c": 1}))
        assert encoder.get_feature_names_out().tolist() == ["missingindicator_a"]

    def test_parts_of_dates(self) -> None:
        frame = messy()[["date", "number"]]
        assert named(TableEncoder(dates=["day"]).fit(frame), frame).columns.tolist() == ["number", "date_day"]
        assert named(TableEncoder(dates=()).fit(frame), frame).columns.tolist() == ["number"]

    def test_dates_before_1970_and_far_away(self) -> None:
        days = pd.Series(np.array(["0312-02-03", "1969-12-31T23:59:59", "2500-07-01"], dtype="datetime64[s]"))
        X = named(TableEncoder().fit(days.to_frame("d")), days.to_frame("d"))
        assert X["d_year"].tolist() == [312, 1969, 2500] and X["d_hour"].tolist() == [0, 23, 0]

    def test_dates_are_read_on_the_clock_of_fit(self) -> None:
        zone = messy()[["zone"]]
        encoder = TableEncoder().fit(zone)
        np.testing.assert_array_equal(
            encoder.transform(zone.assign(zone=zone["zone"].dt.tz_convert("Asia/Tokyo"))),
            encoder.transform(zone),
        )


class TestManyLevels:
    @pytest.fixture
    def data(self) -> tuple[pd.DataFrame, np.ndarray]:
        rng = np.random.default_rng(0)
        level = rng.integers(40, size=400)
        return pd.DataFrame({"s": [f"l{k}" for k in level], "x": rng.normal(size=400)}), (
            level + rng.normal(size=400) > 30
        )

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_target_is_that_of_scikit_learn(
        self, data: tuple[pd.DataFrame, np.ndarray], n_classes: int
    ) -> None:
        frame, y = data
        y = np.array(["no", "yes", "perhaps"])[1 * y + (n_classes == 3) * (frame["x"] > 1)]
        encoder = TableEncoder(random_state=0).fit(frame, y)
        columns = ["s"] if n_classes == 2 else ["s_no", "s_perhaps", "s_yes"]
        expected = TargetEncoder().fit(frame[["s"]], y).transform(frame[["s"]])
        np.testing.assert_allclose(named(encoder, frame)[columns], expected, rtol=1e-12)
        assert encoder.n_numeric_ == len(columns) + 1

    def test_training_rows_are_cross_fitted(self, data: tuple[pd.DataFrame, np.ndarray]) -> None:
        frame, _ = data
        y = np.random.default_rng(1).integers(2, size=400)  # nothing to learn
        encoder = TableEncoder(random_state=0)
        seen = abs(np.corrcoef(encoder.fit_transform(frame, y)[:, 1], y)[0, 1])
        leaked = np.corrcoef(encoder.transform(frame)[:, 1], y)[0, 1]
        assert seen < 0.15 < 0.25 < leaked
        again = TableEncoder(random_state=0).fit_transform(frame, y)
        assert np.array_equal(encoder.fit_transform(frame, y), again)
        assert not np.array_equal(TableEncoder(random_state=1).fit_transform(frame, y), again)

    @pytest.mark.parametrize("y", [np.arange(400) == 7, np.arange(400) < 3, np.arange(400) / 7.0])
    def test_rare_classes_and_numbers_as_target(
        self, data: tuple[pd.DataFrame, np.ndarray], y: np.ndarray
    ) -> None:
        assert np.isfinite(TableEncoder(random_state=0).fit_transform(data[0], y)).all()

    def test_frequent(self, data: tuple[pd.DataFrame, np.ndarray]) -> None:
        frame, _ = data
        encoder = TableEncoder(max_onehot=5, high_cardinality="frequent").fit(frame)
        X = named(encoder, frame)
        top = frame["s"].value_counts()
        kept = [name.removeprefix("s_") for name in X if name.startswith("s_")]
        assert len(kept) == 5 and kept[-1] == "infrequent_sklearn"
        assert all(top[level] >= top.iloc[4] for level in kept[:-1])
        assert (X.drop(columns="x").sum(axis=1) == 1).all()
        unseen = named(encoder, pd.DataFrame({"s": ["new", None], "x": 0.0}))
        assert unseen["s_infrequent_sklearn"].tolist() == [1, 1]

    def test_text_brings_like_levels_together(self) -> None:
        pytest.importorskip("skrub")
        words = ["software engineer", "fire officer", "tax clerk"]
        frame = pd.DataFrame({"s": [f"{words[i % 3]} {i % 31}" for i in range(200)]})
        frame.loc[5, "s"] = None
        encoder = TableEncoder(high_cardinality="text", random_state=0)
        X = encoder.fit_transform(frame)
        assert X.shape == (200, 30) and encoder.get_feature_names_out()[29] == "s_29"
        similarity = X[[0, 3, 1]] @ X[0]
        assert similarity[1] > 2 * similarity[2]
        assert np.array_equal(
            TableEncoder(high_cardinality="text", random_state=0).fit(frame).transform(frame), X
        )

    def test_text_without_skrub(
        self, data: tuple[pd.DataFrame, np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "skrub", None)
        with pytest.raises(ImportError, match=r"pip install \"skreweight\[tables\]\""):
            TableEncoder(high_cardinality="text").fit(data[0])

    def test_a_transformer(self, data: tuple[pd.DataFrame, np.ndarray]) -> None:
        own = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        encoder = TableEncoder(high_cardinality=own).fit(data[0])
        X = named(encoder, data[0])
        assert X["s"].nunique() == 40
        assert not hasattr(own, "categories_")

    def test_the_limit(self) -> None:
        frame = pd.DataFrame({"s": [*"abcabc", None]})
        assert TableEncoder(max_onehot=3).fit(frame).get_feature_names_out().tolist() == [
            "s_a",
            "s_b",
            "s_c",
            "s_nan",
        ]
        with pytest.raises(ValueError, match="'s' with more than 2 levels"):
            TableEncoder(max_onehot=2).fit(frame)

    def test_names_of_rows_are_left_out(self) -> None:
        frame = pd.DataFrame({"id": [f"row {i}" for i in range(30)], "x": np.arange(30.0)})
        for choice in ("target", "frequent"):
            encoder = TableEncoder(high_cardinality=choice).fit(frame)
            assert encoder.get_feature_names_out().tolist() == ["x"]


class TestPrediction:
    def test_only_gaps(self) -> None:
        frame = messy()
        y = np.arange(N) % 2
        gaps = pd.DataFrame({name: [None, None] for name in frame})
        for choice in ("target", "frequent", "drop"):
            encoder = TableEncoder(high_cardinality=choice, random_state=0).fit(frame, y)
            assert np.isfinite(encoder.transform(gaps)).all()

    def test_unseen_levels(self) -> None:
        encoder = TableEncoder().fit(pd.DataFrame({"a": ["x", "y", None, "x"], "n": [1.0, 2.0, 3.0, 4.0]}))
        new = pd.DataFrame({"a": ["z", None, "y"], "n": 1.0})
        assert named(encoder, new)[["a_x", "a_y", "a_nan"]].to_numpy().tolist() == [
            [0, 0, 0],
            [0, 0, 1],
            [0, 1, 0],
        ]

    def test_one_row_at_a_time(self) -> None:
        frame = messy()
        encoder = TableEncoder(high_cardinality="drop").fit(frame)
        together = encoder.transform(frame)
        for i in (0, 3, 17):
            assert np.array_equal(encoder.transform(frame.iloc[[i]]), together[[i]])

    def test_columns_in_another_order(self) -> None:
        frame = messy()[["number", "boolean"]]
        with pytest.raises(ValueError, match="feature names should match"):
            TableEncoder().fit(frame).transform(frame[["boolean", "number"]])

    @pytest.mark.parametrize(
        ("name", "values", "words"),
        [
            ("number", ["high"], "'number' held numbers in fit, got 'high'"),
            ("number", [pd.Timestamp("2020-01-01")], "'number' held numbers in fit, got Timestamp"),
            ("boolean", ["yes"], "'boolean' held booleans in fit, got 'yes'"),
            ("date", ["soon"], "'date' held dates in fit, got 'soon'"),
            ("date", [3], "'date' held dates in fit, got .*3"),
            ("date", [pd.Timestamp("2020-01-01", tz="UTC")], "'date' held dates in fit"),
            ("zone", [pd.Timestamp("2020-01-01")], "'zone' held dates in fit"),
            ("duration", ["long"], "'duration' held durations in fit, got 'long'"),
            ("number", [np.inf], r"Input column 'number' of X contains infinity"),
        ],
    )
    def test_values_of_another_kind(self, name: str, values: list[Any], words: str) -> None:
        encoder = TableEncoder().fit(messy()[[name]])
        with pytest.raises(ValueError, match=words):
            encoder.transform(pd.DataFrame({name: values}))

    def test_other_kinds_that_can_be_read(self) -> None:
        frame = messy()[["number", "boolean", "date"]]
        encoder = TableEncoder().fit(frame)
        new = pd.DataFrame({"number": ["1.5"], "boolean": [1], "date": ["2020-02-01 03:00"]})
        assert named(encoder, new)[["number", "boolean", "date_hour"]].to_numpy().tolist() == [
            [1.5, 1.0, 3.0]
        ]

    def test_before_fit(self) -> None:
        for call in (lambda: TableEncoder().transform(messy()), TableEncoder().get_feature_names_out):
            with pytest.raises(NotFittedError):
                call()


class TestRefusals:
    def test_columns_called_the_same(self) -> None:
        with pytest.raises(ValueError, match="must be unique, got 'a' more than once: rename"):
            TableEncoder().fit(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))

    def test_sparse(self) -> None:
        with pytest.raises(TypeError, match=r"Column 'a' is sparse.*to_dense\(\)"):
            TableEncoder().fit(pd.DataFrame({"a": pd.arrays.SparseArray([0, 0, 1])}))
        with pytest.raises(TypeError, match=r"dense data is required"):
            TableEncoder().fit(sparse.eye_array(4).tocsr())

    @pytest.mark.parametrize("entry", [[1, 2], {"a": 1}, (1,), {1}, np.zeros(2)])
    def test_containers(self, entry: Any) -> None:
        column = pd.Series([1.0, "b", None], dtype=object)
        column[1] = entry
        with pytest.raises(TypeError, match=r"Column 'a' must hold one value in every entry, got a "):
            TableEncoder().fit(pd.DataFrame({"a": column}))

    def test_infinity_and_complex(self) -> None:
        with pytest.raises(ValueError, match="Input column 'a' of X contains infinity or a value too large"):
            TableEncoder().fit(pd.DataFrame({"a": [1.0, np.inf]}))
        with pytest.raises(ValueError, match=r"Complex data not supported.*'a'"):
            TableEncoder().fit(pd.DataFrame({"a": [1j, 2.0]}))

    @pytest.mark.parametrize("frame", [pd.DataFrame({"a": []}), pd.DataFrame(index=[1, 2])])
    def test_nothing_there(self, frame: pd.DataFrame) -> None:
        with pytest.raises(ValueError, match=r"Found array with 0 (sample|feature)\(s\)"):
            TableEncoder().fit(frame)

    def test_nothing_varies(self) -> None:
        with pytest.raises(ValueError, match=r"No column of X varies over its rows \(n_samples=3\)"):
            TableEncoder().fit(pd.DataFrame({"a": [1, 1, 1], "b": "x"}))

    def test_columns_without_values(self) -> None:
        frame = pd.DataFrame({"a": [None, None, None], "b": [1.0, 2.0, 4.0], "c": np.nan})
        with pytest.warns(UserWarning, match="Columns 'a', 'c' without any value in fit: left out"):
            encoder = TableEncoder().fit(frame)
        assert encoder.kinds_ == {"a": "empty", "b": "number", "c": "empty"}
        assert encoder.transform(frame.assign(a="new")).tolist() == [[1.0], [2.0], [4.0]]

    def test_a_target_is_needed(self) -> None:
        frame = messy()
        with pytest.raises(ValueError, match=r"Column 'levels' with more than 20 levels.*give y, or choose"):
            TableEncoder().fit(frame)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            TableEncoder().fit(frame, np.zeros(3))

    def test_dates_that_cannot_be_read(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"Column 'd' holds dates that pandas cannot read, got '2020-01-01'.*pandas\.to_datetime",
        ):
            TableEncoder().fit(pd.DataFrame({"d": ["2020-01-01", "0000-00-00"]}))

    def test_too_large_for_float32(self) -> None:
        frame = pd.DataFrame({"small": [1.0, 2.0], "a": [1.0, 1e300]})
        assert TableEncoder().fit_transform(frame).max() == 1e300
        with pytest.raises(ValueError, match=r"'a' of the result contains .*float32"):
            TableEncoder(dtype=np.float32).fit_transform(frame)

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"max_onehot": 1}, "'max_onehot' parameter"),
            ({"high_cardinality": "hash"}, "'high_cardinality' parameter"),
            ({"dates": "year"}, "'dates' parameter"),
            ({"dates": ["minute"]}, r"dates must be a sequence of parts among year, .*, got \['minute'\]\."),
            ({"dtype": "int32"}, "dtype must be float32 or float64, got 'int32'"),
        ],
    )
    def test_parameters(self, parameters: dict[str, Any], words: str) -> None:
        with pytest.raises(ValueError, match=words):
            TableEncoder(**parameters).fit(messy())

    def test_a_failed_fit_leaves_it_as_it_was(self) -> None:
        encoder = TableEncoder()
        with pytest.raises(ValueError, match="varies"):
            encoder.fit(pd.DataFrame({"a": [1, 1]}))
        with pytest.raises(NotFittedError):
            encoder.transform(pd.DataFrame({"a": [1, 1]}))


class TestAround:
    def test_clone_and_pickle(self) -> None:
        frame, y = messy(), np.arange(N) % 2
        encoder = TableEncoder(max_onehot=5, random_state=0).fit(frame, y)
        expected = encoder.transform(frame)
        assert np.array_equal(pickle.loads(pickle.dumps(encoder)).transform(frame), expected)
        assert np.array_equal(clone(encoder).fit(frame, y).transform(frame), expected)

    def test_frames_out(self) -> None:
        frame = messy().set_index(pd.Index(range(100, 100 + N)))
        encoder = TableEncoder(high_cardinality="drop", dtype=np.float32).set_output(transform="pandas")
        out = encoder.fit_transform(frame)
        assert out.index.equals(frame.index) and (out.dtypes == np.float32).all()
        assert out.columns.tolist() == encoder.get_feature_names_out().tolist()
        assert encoder.set_output(transform="polars").transform(frame).columns == out.columns.tolist()
        with config_context(transform_output="pandas"):
            assert TableEncoder(high_cardinality="drop").fit_transform(frame).shape == out.shape

    def test_two_columns_that_would_be_called_the_same(self) -> None:
        frame = pd.DataFrame(
            {"d": pd.date_range("2020", periods=4, freq="YE"), "d_year": [1.0, 2.0, 3.0, 4.0]}
        )
        names = TableEncoder(dates=["year"]).fit(frame).get_feature_names_out().tolist()
        assert names == ["number__d_year", "date__d_year"]

    def test_names_given_later(self) -> None:
        encoder = TableEncoder().fit([[1, "a"], [2, "b"], [3, "a"]])
        assert encoder.get_feature_names_out(["n", "s"]).tolist() == ["n", "s_a", "s_b"]
        with pytest.raises(ValueError, match="length equal"):
            encoder.get_feature_names_out(["n"])

    def test_in_a_grid(self) -> None:
        frame, y = messy(), np.arange(N) % 2
        pipe = make_pipeline(TableEncoder(random_state=0), StandardScaler(), LogisticRegression())
        options = {
            "tableencoder__high_cardinality": ["target", "frequent"],
            "tableencoder__max_onehot": [5, 20],
        }
        grid = GridSearchCV(pipe, options, cv=2, error_score="raise").fit(frame, y)
        assert np.isfinite(grid.cv_results_["mean_test_score"]).all()

    def test_before_the_network_for_tables(self) -> None:
        frame, y = messy(), np.arange(N) % 2
        encoder = TableEncoder(dtype=np.float32, random_state=0)
        X = encoder.fit_transform(frame, y)
        clf = ReweightedClassifier(
            TableNet, module__n_numeric=encoder.n_numeric_, weighting="none", warmup_epochs=2, max_epochs=0
        ).fit(X, y)
        assert clf.module_.layers.embedding.n_embedded == encoder.n_numeric_
        assert np.isfinite(clf.predict_proba(encoder.transform(frame))).all()

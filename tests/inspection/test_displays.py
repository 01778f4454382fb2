"""The displays by their artists, against numbers worked out the slow way."""

import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, make_scorer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skreweight import ReweightedClassifier
from skreweight.inspection import DecisionDisplay, ExampleWeightsDisplay, HistoryDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    X, codes = make_classification(240, weights=[0.85], class_sep=0.8, random_state=0)
    return X, np.array(["common", "rare"])[codes]


@pytest.fixture(scope="module")
def fitted(data):
    clf = ReweightedClassifier(weighting="hu", warmup_epochs=3, max_epochs=2, lr=1e-3, random_state=0)
    return clf.fit(*data)


class TestExampleWeights:
    def test_shares_of_each_class(self, fitted, data):
        display = ExampleWeightsDisplay.from_estimator(fitted, data[1], bins=7)
        weights = fitted.example_weights_
        finite = weights[np.isfinite(weights)]
        edges = np.linspace(finite.min(), finite.max(), 8)
        assert list(display.artists_) == ["common", "rare"]
        for label, patch in display.artists_.items():
            of_class = weights[(data[1] == label) & np.isfinite(weights)]
            expected = [
                sum(low <= w < high or (w == high == edges[-1]) for w in of_class) / len(of_class)
                for low, high in pairwise(edges)
            ]
            values, drawn_edges, _ = patch.get_data()
            np.testing.assert_allclose(values, expected)
            np.testing.assert_allclose(drawn_edges, edges)
            assert f"{len(of_class)} rows" in patch.get_label()

    def test_rows_held_out_are_left_out(self, fitted, data):
        display = ExampleWeightsDisplay.from_estimator(fitted, data[1])
        drawn = sum(map(len, display.weights.values()))
        assert drawn == len(data[1]) - len(fitted.validation_indices_)

    def test_cumulative_ends_at_one(self):
        weights, y = [0.0, 0.0, 2.0, 1.0], [0, 0, 0, 1]
        line = ExampleWeightsDisplay.from_weights(weights, y, kind="cumulative").artists_[0]
        at = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
        assert at[0.0] == pytest.approx(2 / 3) and at[2.0] == 1

    @pytest.mark.parametrize("kind", ["histogram", "cumulative"])
    def test_log_puts_what_is_small_at_the_lower_end(self, kind):
        weights, y = [0.0, 1e-9, 0.5, 1.0], [0, 0, 0, 1]
        display = ExampleWeightsDisplay.from_weights(weights, y, kind=kind, log=True, bins=4)
        assert display.ax_.get_xscale() == "log"
        assert "0.0001 or less" in display.ax_.get_xlabel()
        if kind == "histogram":
            values, edges, _ = display.artists_[0].get_data()
            np.testing.assert_allclose(edges, [1e-4, 1e-3, 1e-2, 1e-1, 1])
            np.testing.assert_allclose(values, [2 / 3, 0, 0, 1 / 3])
        else:
            at = dict(zip(*display.artists_[0].get_data(), strict=True))
            assert at[1e-4] == pytest.approx(2 / 3)

    def test_a_class_that_is_held_out_as_a_whole_is_not_drawn(self):
        assert list(ExampleWeightsDisplay.from_weights([1.0, np.nan], ["a", "b"]).artists_) == ["a"]

    def test_errors(self, data):
        with pytest.raises(ValueError, match="No example weight is finite"):
            ExampleWeightsDisplay.from_weights([np.nan], [1])
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            ExampleWeightsDisplay.from_weights([1.0, 2.0], [1])
        with pytest.raises(ValueError, match=r"above 0, got none\."):
            ExampleWeightsDisplay.from_weights([0.0], [1], log=True)
        with pytest.raises(ValueError, match="got 'pie'"):
            ExampleWeightsDisplay.from_weights([1.0], [1], kind="pie")
        with pytest.raises(ValueError, match=r"LogisticRegression has no example_weights_"):
            ExampleWeightsDisplay.from_estimator(LogisticRegression().fit(*data), data[1])
        with pytest.raises(NotFittedError):
            ExampleWeightsDisplay.from_estimator(ReweightedClassifier(), data[1])


class TestHistory:
    def test_lines_are_the_columns_of_the_history(self, fitted):
        display = HistoryDisplay.from_estimator(fitted)
        frame = fitted.history_frame()
        assert list(display.lines_) == ["train_loss", "valid_loss"]
        for name, line in display.lines_.items():
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5])
            np.testing.assert_array_equal(line.get_ydata(), frame[name])

    def test_boundary_lies_between_the_stages(self, fitted):
        display = HistoryDisplay.from_estimator(fitted, columns="valid_acc")
        assert list(display.boundary_.get_xdata()) == [3.5, 3.5]
        assert [text.get_text().strip() for text in display.ax_.texts] == ["stage 1", "stage 2"]
        assert display.ax_.get_ylabel() == "valid_acc"

    @pytest.mark.parametrize("stage", [1, 2])
    def test_one_stage_has_no_boundary(self, stage):
        frame = pd.DataFrame({"stage": [stage, stage], "train_loss": [2.0, 1.0]}, index=[1, 2])
        assert HistoryDisplay(frame).plot().boundary_ is None

    def test_errors(self, fitted, data):
        with pytest.raises(ValueError, match=r"no column 'valid_aac', got .*valid_acc"):
            HistoryDisplay.from_estimator(fitted, columns=["train_loss", "valid_aac"])
        with pytest.raises(ValueError, match="no column loss"):
            HistoryDisplay(pd.DataFrame({"stage": [1]})).plot()
        with pytest.raises(ValueError, match="LogisticRegression has no history_frame"):
            HistoryDisplay.from_estimator(LogisticRegression().fit(*data))


class TestDecision:
    def test_scores_are_those_of_labels_at_each_threshold(self, fitted, data):
        X, y = data
        rare = make_scorer(f1_score, pos_label="rare")
        display = DecisionDisplay.from_estimator(fitted, X, y, scoring=["balanced_accuracy", rare])
        proba = fitted.predict_proba(X)[:, 1].astype(float)
        assert list(display.lines_) == ["balanced_accuracy", "f1_score"]
        thresholds = display.lines_["f1_score"].get_xdata()
        assert thresholds[0] == proba.min() and thresholds[-1] == proba.max()
        for place in range(0, len(thresholds), 17):
            labels = ["rare" if p >= thresholds[place] else "common" for p in proba]
            expected = balanced_accuracy_score(y, labels), f1_score(y, labels, pos_label="rare")
            drawn = tuple(line.get_ydata()[place] for line in display.lines_.values())
            assert drawn == pytest.approx(expected)

    def test_best_point_and_default_line(self):
        y, score = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4])
        display = DecisionDisplay.from_predictions(y, score)
        (x,), (height,) = display.best_points_["balanced_accuracy"].get_data()
        assert 0.2 < x <= 0.3 and height == 1
        assert x == display.best_["balanced_accuracy"]
        assert list(display.default_line_.get_xdata()) == [0.5, 0.5]
        assert DecisionDisplay.from_predictions(y, score, default=None).default_line_ is None

    def test_of_several_best_thresholds_the_middle_one(self):
        display = DecisionDisplay(np.arange(5.0), {"score": np.array([0.0, 2, 2, 2, 1])})
        assert display.best_ == {"score": 2.0}

    def test_pos_label_turns_the_decision_around(self):
        y, score = ["a", "a", "b"], [0.9, 0.8, 0.1]
        assert (
            DecisionDisplay.from_predictions(y, score, pos_label="a").scores["balanced_accuracy"].max() == 1
        )
        assert DecisionDisplay.from_predictions(y, score).scores["balanced_accuracy"].max() == 0.5

    def test_pos_label_of_an_estimator(self, data):
        X, y = data
        clf = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
        for label, column in (("common", 0), (None, 1)):
            display = DecisionDisplay.from_estimator(clf, X, y, pos_label=label)
            assert display.thresholds[-1] == clf.predict_proba(X)[:, column].max()

    def test_a_scorer_of_costs(self):
        def cost(y_true, y_pred):
            return 10 * np.sum(y_pred > y_true) + 500 * np.sum(y_pred < y_true)

        scorer = make_scorer(cost, greater_is_better=False)
        display = DecisionDisplay.from_predictions([0, 1, 0], [0.1, 0.2, 0.3], scoring=scorer)
        assert display.scores["cost"].max() == -10 and 0.1 < display.best_["cost"] <= 0.2

    def test_errors(self, data):
        X, y = data
        with pytest.raises(ValueError, match=r"two classes, got 3\."):
            DecisionDisplay.from_predictions([0, 1, 2], [0.1, 0.2, 0.3])
        three = LogisticRegression().fit(X[:3], [0, 1, 2])
        with pytest.raises(ValueError, match=r"two classes, got 3\."):
            DecisionDisplay.from_estimator(three, X[:3], [0, 1, 2])
        with pytest.raises(ValueError, match="must be finite"):
            DecisionDisplay.from_predictions([0, 1], [0.1, np.nan])
        with pytest.raises(ValueError, match="got roc_auc, which needs probabilities"):
            DecisionDisplay.from_predictions([0, 1], [0.1, 0.2], scoring="roc_auc")
        with pytest.raises(ValueError, match="pos_label must be one of"):
            DecisionDisplay.from_predictions([0, 1], [0.1, 0.2], pos_label=2)
        with pytest.raises(ValueError, match="pos_label must be one of"):
            DecisionDisplay.from_estimator(LogisticRegression().fit(X, y), X, y, pos_label="rrare")


MADE = {
    ExampleWeightsDisplay: lambda: ExampleWeightsDisplay({"a": np.ones(2)}),
    HistoryDisplay: lambda: HistoryDisplay(pd.DataFrame({"stage": [1], "train_loss": [1.0]})),
    DecisionDisplay: lambda: DecisionDisplay(np.arange(2.0), {"score": np.arange(2.0)}),
}


@pytest.mark.parametrize("display", MADE, ids=lambda d: d.__name__)
def test_axes_may_be_given(display):
    figure, ax = plt.subplots()
    made = MADE[display]().plot(ax=ax)
    assert made.ax_ is ax and made.figure_ is figure
    assert MADE[display]().plot().figure_ is not figure


@pytest.mark.parametrize("display", MADE, ids=lambda d: d.__name__)
def test_without_matplotlib_the_extra_is_named(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    made = MADE[display]()
    with pytest.raises(
        ImportError, match=rf'{display.__name__} needs matplotlib: pip install "skreweight\[plot\]"'
    ):
        made.plot()

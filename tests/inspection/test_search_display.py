"""The display of searches by its artists, against the search's results looked up one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import colors
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skreweight.inspection import SearchDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

X, Y = make_classification(120, weights=[0.8], flip_y=0.2, random_state=0)
DEPTHS, LEAVES = [4, 1, 2], [10, 1]


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


def searched(grid: Any, estimator: Any = None, **options: Any) -> Any:
    return GridSearchCV(estimator or DecisionTreeClassifier(random_state=0), grid, cv=3, **options).fit(X, Y)


def best_of(search: Any, name: str = "mean_test_score", **params: Any) -> float:
    """The best score of the candidates with these parameters, by looking at each."""
    results = search.cv_results_
    return max(
        score
        for score, own in zip(results[name], results["params"], strict=True)
        if all(own.get(k) == v for k, v in params.items())
    )


def test_cells_are_the_mean_scores() -> None:
    search = searched({"max_depth": DEPTHS, "min_samples_leaf": LEAVES})
    display = SearchDisplay.from_estimator(search)
    cells = np.asarray(display.image_.get_array())
    assert cells.shape == (2, 3)
    for row, leaf in enumerate(sorted(LEAVES)):
        for column, depth in enumerate(sorted(DEPTHS)):
            expected = best_of(search, max_depth=depth, min_samples_leaf=leaf)
            assert cells[row, column] == expected
            assert display.text_[row, column].get_text() == f"{expected:.3f}"
            assert display.text_[row, column].get_position() == (column, row)
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["1", "2", "4"]
    assert [t.get_text() for t in display.ax_.get_yticklabels()] == ["1", "10"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("max_depth", "min_samples_leaf")
    assert display.line_ is None
    column, row = np.add(display.best_.get_xy(), 0.5).astype(int)
    assert cells[row, column] == search.best_score_


def test_of_candidates_that_differ_elsewhere_the_best_is_drawn() -> None:
    search = searched({"max_depth": DEPTHS, "min_samples_leaf": LEAVES, "criterion": ["gini", "entropy"]})
    display = SearchDisplay.from_estimator(search, ["min_samples_leaf", "criterion"])
    for row, criterion in enumerate(["gini", "entropy"]):
        for column, leaf in enumerate(sorted(LEAVES)):
            assert display.scores[row, column] == best_of(search, criterion=criterion, min_samples_leaf=leaf)


def test_text_can_be_read_on_its_colour() -> None:
    display = SearchDisplay([[0.0, 1.0]], ["x", "y"], [[1, 2], ["a"]]).plot()
    assert [colors.to_rgb(t.get_color())[0] for t in display.text_[0]] == [1.0, 0.0]


def test_cells_without_a_score_are_empty() -> None:
    display = SearchDisplay([[0.5, np.nan]], ["x", "y"], [[1, 2], ["a"]]).plot()
    assert display.text_[0, 1] is None
    assert display.best_.get_xy() == (-0.5, -0.5)
    assert SearchDisplay([[np.nan]], ["x", "y"], [[1], [2]]).plot().best_ is None


def test_one_parameter_is_a_line_with_deviations() -> None:
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    grid = {"logisticregression__C": [10.0, 0.01, 1.0], "logisticregression__tol": [1e-4]}
    search = searched(grid, pipe, scoring=["accuracy", "roc_auc"], refit="roc_auc")
    display = SearchDisplay.from_estimator(search)
    x, scores = display.line_.get_data()
    assert x.tolist() == [0.01, 1.0, 10.0]
    assert scores.tolist() == [best_of(search, "mean_test_roc_auc", logisticregression__C=c) for c in x]
    deviations = [best_of(search, "std_test_roc_auc", logisticregression__C=c) for c in x]
    (bars,) = display.ax_.containers[0].lines[2]
    drawn = [(segment[1, 1] - segment[0, 1]) / 2 for segment in bars.get_segments()]
    np.testing.assert_allclose(drawn, deviations)
    assert display.best_.get_data()[1] == search.best_score_
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "C"
    assert "roc_auc" in display.ax_.get_ylabel()
    display.figure_.canvas.draw()
    highest = display.ax_.transData.transform([(1, max(np.add(scores, deviations)))])[0, 1]
    assert display.ax_.get_legend().get_window_extent().y0 > highest
    other = SearchDisplay.from_estimator(search, "C", score="accuracy")
    assert other.line_.get_data()[1][0] == best_of(search, "mean_test_accuracy", logisticregression__C=0.01)


def test_values_of_any_kind_and_grids_of_several_parts() -> None:
    grid = [{"max_depth": [None, 2], "class_weight": [None, {0: 1, 1: 2}]}, {"max_depth": [3]}]
    display = SearchDisplay.from_estimator(searched(grid))
    assert display.scores.shape == (3, 2) or display.scores.shape == (2, 3)
    labels = [t.get_text() for t in (*display.ax_.get_xticklabels(), *display.ax_.get_yticklabels())]
    assert {"None", "2", "{0: 1, 1: 2}"} <= set(labels)
    search = RandomizedSearchCV(DecisionTreeClassifier(), {"splitter": ["best", "random"]}, n_iter=2, cv=2)
    assert len(SearchDisplay.from_estimator(search.fit(X, Y)).line_.get_data()[0]) == 2


def test_errors() -> None:
    with pytest.raises(NotFittedError):
        SearchDisplay.from_estimator(GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1]}))
    search = searched({"max_depth": [1, 2], "min_samples_leaf": [1, 2], "criterion": ["gini", "entropy"]})
    with pytest.raises(
        ValueError,
        match="must name one or two parameters to draw, got None, and the search varies criterion, max",
    ):
        SearchDisplay.from_estimator(search)
    with pytest.raises(ValueError, match="got 'depth'"):
        SearchDisplay.from_estimator(search, "depth")
    with pytest.raises(ValueError, match="got 3"):
        SearchDisplay.from_estimator(search, ["max_depth", "min_samples_leaf", "criterion"])
    with pytest.raises(ValueError, match="no score 'f1', got score"):
        SearchDisplay.from_estimator(search, "max_depth", score="f1")
    with pytest.raises(ValueError, match=r"one axis for each parameter, .* got shape \(1, 2\)"):
        SearchDisplay([[1, 2]], ["x", "y"], [[1], [2]]).plot()


def test_axes_may_be_given() -> None:
    _, ax = plt.subplots()
    display = SearchDisplay([0.1, 0.2], ["x"], [["a", "b"]]).plot(ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert display.image_ is None

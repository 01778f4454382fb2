"""Self-confidence of the given labels."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from skreweight.datasets.imbalance import flip_labels
from skreweight.inspection import label_quality

PROBA = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.2, 0.6]])


def test_is_the_probability_of_the_given_label():
    np.testing.assert_array_equal(label_quality(PROBA, ["a", "b", "c"]), [0.7, 0.3, 0.6])


def test_classes_name_the_columns():
    np.testing.assert_array_equal(
        label_quality(PROBA, ["c", "c", "a"], classes=["c", "b", "a"]), [0.7, 0.1, 0.6]
    )


def test_an_estimator_with_out_of_fold_probabilities():
    estimator = SimpleNamespace(predict_proba=None, oof_proba_=PROBA, classes_=np.array([5, 6, 7]))
    np.testing.assert_array_equal(label_quality(estimator, [7, 7, 5]), [0.1, 0.6, 0.2])


def test_flipped_labels_come_first():
    X, y = make_classification(400, class_sep=2.0, random_state=0)
    flipped = flip_labels(y, 0.1, random_state=0)
    quality = label_quality(
        cross_val_predict(LogisticRegression(), X, flipped, method="predict_proba"), flipped
    )
    wrong = flipped != y
    first = np.argsort(quality)[: wrong.sum()]
    assert wrong.sum() >= 10
    assert wrong[first].mean() > 0.6 > wrong.mean() * 3


def test_no_probability_no_quality():
    assert np.isnan(label_quality([[np.nan, np.nan], [0.4, 0.6]], [0, 1])[0])


def test_errors():
    with pytest.raises(
        ValueError, match="LogisticRegression keeps no out-of-fold probabilities: pass cross_val_predict"
    ):
        label_quality(LogisticRegression(), [0, 1])
    with pytest.raises(ValueError, match=r"shape \(3, 2\).*got \(3, 3\)"):
        label_quality(PROBA, [0, 1, 1])
    with pytest.raises(ValueError, match="got 'd'"):
        label_quality(PROBA, ["a", "b", "d"], classes=["a", "b", "c"])

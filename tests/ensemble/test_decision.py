"""Offsets that a decision stands for."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, make_scorer

from skreweight._ensemble.decision import OutOfFold, check_decision, offsets_for


def rows(n_classes=2, n=600, seed=0, weights=None) -> OutOfFold:
    rng = np.random.default_rng(seed)
    shares = np.array([0.85, 0.1, 0.05]) if n_classes == 3 else np.array([0.9, 0.1])
    codes = rng.choice(n_classes, n, p=shares)
    proba = softmax(rng.normal(size=(n, n_classes)) + 1.2 * np.eye(n_classes)[codes] + np.log(shares), axis=1)
    labels = np.array(["ant", "bee", "cow"])[:n_classes]
    counts = np.bincount(codes, minlength=n_classes) / n
    return OutOfFold(proba, codes, np.ones(n) if weights is None else weights, counts, labels)


def predicted(own: OutOfFold, offsets: np.ndarray) -> np.ndarray:
    return (np.log(own.proba) + offsets).argmax(axis=1)


def test_argmax_prior_and_threshold() -> None:
    own = rows()
    np.testing.assert_array_equal(predicted(own, offsets_for("argmax", own)), own.proba.argmax(axis=1))
    np.testing.assert_array_equal(
        predicted(own, offsets_for("prior", own)), (own.proba / own.shares).argmax(axis=1)
    )
    np.testing.assert_array_equal(predicted(own, offsets_for(0.3, own)), own.proba[:, 1] > 0.3)
    for name in ("balanced_accuracy", "geometric_mean_score"):
        np.testing.assert_array_equal(offsets_for(name, own), offsets_for("prior", own))


@pytest.mark.parametrize("name", ["f1_macro", "f1", "accuracy", "matthews_corrcoef"])
def test_a_scorer_is_near_the_best_of_all_thresholds(name: str) -> None:
    own = rows()
    score = {
        "f1_macro": lambda p: f1_score(own.codes, p, average="macro"),
        "f1": lambda p: f1_score(own.codes, p),
        "accuracy": lambda p: (own.codes == p).mean(),
        "matthews_corrcoef": lambda p: np.nan_to_num(np.corrcoef(own.codes, p)[0, 1]) if np.ptp(p) else 0,
    }[name]
    everywhere = [score((own.proba[:, 1] > t).astype(int)) for t in np.unique(own.proba[:, 1])]
    assert score(predicted(own, offsets_for(name, own))) >= max(everywhere) - 0.012
    assert max(everywhere) - score(predicted(own, np.array([0.0, 6.0]))) > 0.1


def test_costs_by_a_callable_that_sees_labels() -> None:
    own = rows()
    seen = []

    def gain(y, predictions):
        seen.append((set(y), set(predictions)))
        misses = ((y == "bee") & (predictions == "ant")).sum()
        return -(50 * misses + ((y == "ant") & (predictions == "bee")).sum())

    made = predicted(own, offsets_for(gain, own))
    assert set.union(*(b for _, b in seen)) <= {"ant", "bee"}
    everywhere = [
        gain(own.labels[own.codes], own.labels[(own.proba[:, 1] > t).astype(int)])
        for t in np.unique(own.proba[:, 1])
    ]
    mine = gain(own.labels[own.codes], own.labels[made])
    assert mine >= max(everywhere) - 0.01 * np.ptp(everywhere)
    assert made.mean() > 2 * own.proba.argmax(axis=1).mean(), "misses are dear"


def test_class_offsets_by_coordinate_ascent() -> None:
    own = rows(3, n=1500)

    def macro(offsets):
        return f1_score(own.codes, predicted(own, offsets), average="macro")

    found = macro(offsets_for("f1_macro", own))
    assert found >= max(macro(np.zeros(3)), macro(-np.log(own.shares)))
    grid = np.linspace(-1, 3, 17)
    assert found >= max(macro(np.array([0, a, b])) for a in grid for b in grid) - 0.01


def test_weights_are_repetitions() -> None:
    times = np.random.default_rng(1).integers(1, 4, 600)
    own = rows(weights=times.astype(float))
    repeated = OutOfFold(
        np.repeat(own.proba, times, axis=0),
        np.repeat(own.codes, times),
        np.ones(times.sum()),
        own.shares,
        own.labels,
    )
    np.testing.assert_allclose(offsets_for("f1_macro", own), offsets_for("f1_macro", repeated), rtol=1e-12)


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ("f1_macr", r"got 'f1_macr': did you mean f1_macro\?"),
        ("roc_auc", "'roc_auc' is no score of predicted labels"),
        (1.5, r"got 1\.5 for 2 classes"),
        (True, "got True"),
        (None, "got None"),
    ],
)
def test_what_is_no_decision(decision, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_decision(decision, 2)


def test_a_threshold_needs_two_classes() -> None:
    with pytest.raises(ValueError, match="for 3 classes"):
        check_decision(0.5, 3)
    check_decision(make_scorer(balanced_accuracy_score)._score_func, 3)

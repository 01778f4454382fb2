"""What sample_weight and class_weight mean, with every registered weighting."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from skreweight import ReweightedClassifier
from skreweight.losses import effective_number_weights
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS
from skreweight.weighting._base import Step

NAMES = list(WEIGHTINGS)
# Settings with which a method draws nothing at random in stage 2; tests/rows/test_samplers.py has the draws.
WITHOUT_DRAWS = {
    "crt": {"weighting__sampling": "instance", "weighting__new_classifier": False},
    "lws": {"weighting__sampling": "instance"},
}


class DoubleMLP(MLP):
    """In float64, so that a difference beyond rounding shows."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__(n_features, n_classes, hidden=(6,), activation="tanh")
        self.double()


def rows(n_rows: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = (generator.random(n_rows) < 0.3).astype(int)
    return generator.normal(size=(n_rows, 4)) + y[:, None], y


def classifier(weighting: Any, **params: Any) -> ReweightedClassifier:
    defaults = {
        "module": DoubleMLP, "warmup_epochs": 2, "max_epochs": 2, "batch_size": 16, "lr": 1e-2, "random_state": 0,
    }  # fmt: skip
    return ReweightedClassifier(weighting=weighting, **{**defaults, **params})


def parameters(clf: ReweightedClassifier) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in clf.module_.parameters()])


# ------------------------------------------------------------------ zero weights


@pytest.mark.parametrize("given_validation", [False, True])
@pytest.mark.parametrize("weighting", NAMES)
def test_a_row_of_weight_zero_is_left_out(weighting: str, given_validation: bool) -> None:
    """Bit for bit, with mini-batches, other weights and carved validation rows."""
    X, y = rows()
    weight = np.random.default_rng(1).choice([0.0, 1.0, 2.5], len(y), p=[0.3, 0.4, 0.3])
    kept = weight > 0
    X_val, y_val = rows(20, seed=2)
    val = {"X_val": X_val, "y_val": y_val} if given_validation else {}
    weighted = classifier(weighting).fit(X, y, sample_weight=weight, **val)
    without = classifier(weighting).fit(X[kept], y[kept], sample_weight=weight[kept], **val)
    assert torch.equal(parameters(weighted), parameters(without))
    np.testing.assert_array_equal(weighted.class_counts_, without.class_counts_)
    np.testing.assert_array_equal(weighted.example_weights_[kept], without.example_weights_)
    assert np.isnan(weighted.example_weights_[~kept]).all()
    if not given_validation and WEIGHTINGS[weighting].needs_validation:
        assert kept[weighted.validation_indices_].all()
        np.testing.assert_array_equal(
            np.flatnonzero(kept)[without.validation_indices_], weighted.validation_indices_
        )


@pytest.mark.parametrize("weighting", NAMES)
def test_absurd_values_in_a_row_of_weight_zero_do_nothing(weighting: str) -> None:
    X, y = rows()
    weight = np.ones(len(y))
    weight[:10] = 0
    X_absurd = X.copy()
    X_absurd[:10] = 1e30
    ordinary, absurd = (classifier(weighting).fit(part, y, sample_weight=weight) for part in (X, X_absurd))
    assert torch.equal(parameters(ordinary), parameters(absurd))


@pytest.mark.parametrize("weighting", NAMES)
def test_equal_weights_are_no_weights(weighting: str) -> None:
    X, y = rows()
    plain = classifier(weighting).fit(X, y)
    for value in (1.0, 4.0):
        weighted = classifier(weighting).fit(X, y, sample_weight=np.full(len(y), value))
        assert torch.equal(parameters(weighted), parameters(plain))


@pytest.mark.parametrize("weighting", NAMES)
def test_the_scale_of_the_weights_means_nothing(weighting: str) -> None:
    X, y = rows()
    weight = np.random.default_rng(1).integers(1, 4, len(y)).astype(float)
    one, other = (classifier(weighting).fit(X, y, sample_weight=weight * scale) for scale in (1.0, 8.0))
    assert torch.equal(parameters(one), parameters(other))


@pytest.mark.parametrize(
    ("weighting", "options"), [("meta", {}), ("proportion", {"weighting__scheme": "effective-number"})]
)
def test_effective_numbers_count_weights_as_if_their_mean_were_one(
    weighting: str, options: dict[str, Any]
) -> None:
    X, y = rows()
    clf = classifier(weighting, **options).fit(X, y, sample_weight=np.full(len(y), 50.0))
    held = clf.validation_indices_
    counts = np.bincount(y if held is None else np.delete(y, held)).astype(float)
    expected = effective_number_weights(torch.from_numpy(counts), 0.9999)
    torch.testing.assert_close(clf.weighting_.state_["class_weights"], expected)


# ------------------------------------------------------------------ repeated rows


def _weighted_and_repeated(weighting: str, **params: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Parameters after a fit with integer weights, with repeated rows, and without either."""
    X, y = rows(40)
    weight = np.random.default_rng(1).integers(0, 4, len(y))
    X_val, y_val = rows(20, seed=2)
    val = {"X_val": X_val, "y_val": y_val}
    options = {"batch_size": -1, "warmup_epochs": 3, "max_epochs": 5, "keep_best": False, **params}
    options |= WITHOUT_DRAWS.get(weighting, {})
    weighted = classifier(weighting, **options).fit(X, y, sample_weight=weight, **val)
    repeated = classifier(weighting, **options).fit(X.repeat(weight, axis=0), y.repeat(weight), **val)
    plain = classifier(weighting, **options).fit(X, y, **val)
    return parameters(weighted), parameters(repeated), parameters(plain)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("weighting", [name for name in NAMES if name not in ("hu", "ours", "meta")])
def test_integer_weights_are_repeated_rows(weighting: str, optimizer: Any) -> None:
    """What check_sample_weight_equivalence_on_dense_data asks for, with full batches: to 1e-9 in float64."""
    weighted, repeated, plain = _weighted_and_repeated(weighting, optimizer=optimizer, lr=0.05)
    torch.testing.assert_close(weighted, repeated, rtol=1e-9, atol=1e-11)
    assert (weighted - plain).abs().max() > 1e-5


@pytest.mark.parametrize("weighting", ["hu", "ours"])
def test_integer_weights_are_repeated_rows_where_the_virtual_step_is_small(weighting: str) -> None:
    """The virtual step θ̂ = θ + Σ w δ takes the stored weights as they are: its length is all that differs."""
    exact = _weighted_and_repeated(weighting, warmup_epochs=0, max_epochs=1, weighting__initial_weight=0.0)
    torch.testing.assert_close(exact[0], exact[1], rtol=1e-9, atol=1e-11)
    weighted, repeated, plain = _weighted_and_repeated(weighting)
    assert (weighted - repeated).norm() < 0.05 * (repeated - plain).norm()


# ------------------------------------------------------------------ class weights


def first_losses(weighting: str, **params: Any) -> torch.Tensor:
    """The losses that a method sees in its first batch, which holds all rows in their order."""
    seen: list[Step] = []
    kind = WEIGHTINGS[weighting]

    class Spy(kind):  # type: ignore[misc, valid-type]
        def weigh(self, step: Step) -> torch.Tensor:
            seen.append(step)
            return super().weigh(step)

    X, y = rows()
    X_val, y_val = rows(20, seed=2)
    options = {"batch_size": -1, "iterator_train__shuffle": False, "warmup_epochs": 0, "max_epochs": 1}
    options |= WITHOUT_DRAWS.get(weighting, {})
    classifier(Spy, **{**options, **params}).fit(X, y, X_val=X_val, y_val=y_val)
    return seen[0].losses


@pytest.mark.filterwarnings("ignore:The classes' numbers of rows are corrected for twice:UserWarning")
@pytest.mark.parametrize("weighting", NAMES)
@pytest.mark.parametrize("class_weight", [{0: 1.0, 1: 5.0}, {1: 3.0}, "balanced", "effective-number"])
def test_class_weights_multiply_the_loss_before_the_method_sees_it(weighting: str, class_weight: Any) -> None:
    _, y = rows()
    expected = {
        "balanced": compute_class_weight("balanced", classes=np.array([0, 1]), y=y),
        "effective-number": np.asarray(effective_number_weights(np.bincount(y))),
    }
    by_class = (
        np.array([class_weight.get(label, 1.0) for label in (0, 1)])
        if isinstance(class_weight, dict)
        else expected[class_weight]
    )
    ratio = first_losses(weighting, class_weight=class_weight) / first_losses(weighting)
    # Stage 2 of two-phase trains on the validation rows, which are balanced as they are.
    expected_ratio = np.ones(len(ratio)) if weighting == "two-phase" else by_class[y]
    np.testing.assert_allclose(ratio, expected_ratio, rtol=1e-10)


@pytest.mark.parametrize("weighting", ["none", "proportion", "absgd"])
def test_class_weights_are_those_of_a_criterion(weighting: str) -> None:
    """Without validation rows; these are never weighted."""
    X, y = rows()
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64)
    ours = classifier(weighting, class_weight={0: 1.0, 1: 3.0}).fit(X, y)
    torchs = classifier(weighting, criterion__weight=weight).fit(X, y)
    torch.testing.assert_close(parameters(ours), parameters(torchs), rtol=1e-12, atol=1e-14)


def test_class_weight_is_a_sample_weight_by_class() -> None:
    """Up to the mean of the weights, which sample_weight is divided by: with SGD that is the learning rate."""
    X, y = rows()
    by_row = np.array([1.0, 3.0])[y]
    options = {"optimizer": torch.optim.SGD, "batch_size": -1, "max_epochs": 0}
    by_class = classifier("none", class_weight={1: 3.0}, lr=0.1, **options).fit(X, y)
    by_sample = classifier("none", lr=0.1 * by_row.mean(), **options).fit(X, y, sample_weight=by_row)
    torch.testing.assert_close(parameters(by_class), parameters(by_sample), rtol=1e-10, atol=1e-12)


def test_balanced_counts_sample_weights() -> None:
    X, y = rows()
    weight = np.where(y == 1, 3.0, 1.0)
    balanced = classifier("none", class_weight="balanced").fit(X, y, sample_weight=weight)
    counts = balanced.class_counts_
    np.testing.assert_allclose(counts[1] / counts[0], 3 * np.sum(y == 1) / np.sum(y == 0))
    np.testing.assert_allclose(counts.sum(), len(y))
    by_hand = {k: counts.sum() / (2 * counts[k]) for k in (0, 1)}
    dictionary = classifier("none", class_weight=by_hand).fit(X, y, sample_weight=weight)
    assert torch.equal(parameters(balanced), parameters(dictionary))


@pytest.mark.filterwarnings("ignore:The classes' numbers of rows are corrected for twice")
@pytest.mark.parametrize("weighting", NAMES)
def test_deferred_class_weights_leave_stage_one_alone(weighting: str) -> None:
    X, y = rows()
    stage_one = {"warmup_epochs": 2, "max_epochs": 0}
    plain = classifier(weighting, **stage_one).fit(X, y)
    deferred = classifier(weighting, class_weight={1: 5.0}, defer_class_weight=True, **stage_one).fit(X, y)
    at_once = classifier(weighting, class_weight={1: 5.0}, **stage_one).fit(X, y)
    assert torch.equal(parameters(plain), parameters(deferred))
    assert not torch.equal(parameters(plain), parameters(at_once))


@pytest.mark.filterwarnings("ignore:The classes' numbers of rows are corrected for twice")
@pytest.mark.parametrize("weighting", NAMES)
def test_class_weights_go_by_label(weighting: str) -> None:
    X, y = rows()
    names = np.where(y == 1, "rare", "common")
    by_name = classifier(weighting, class_weight={"rare": 4.0}).fit(X, names)
    by_code = classifier(weighting, class_weight={1: 4.0}).fit(X, y)
    assert torch.equal(parameters(by_name), parameters(by_code))


def test_class_weight_of_an_unknown_label_is_an_error_that_lists_the_known() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match=r"class_weight names 'rare', which is none of the classes \[0, 1\]"):
        classifier("none", class_weight={"rare": 4.0}).fit(X, y)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (-np.ones(90), "[Nn]egative"),
        (np.ones(5), "sample_weight.shape"),
        (np.full(90, np.nan), "NaN"),
        (np.zeros(90), "class|non-zero"),
    ],
)
def test_impossible_sample_weights(weight: np.ndarray, words: str) -> None:
    X, y = rows()
    with pytest.raises(ValueError, match=words):
        classifier("none").fit(X, y, sample_weight=weight)

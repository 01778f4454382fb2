"""What ``diagnostics=True`` records, and that nothing is spent on it otherwise."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from skreweight.weighting import WEIGHTINGS
from tests.weighting.problem import N_ROWS, Net, assert_same, data, fitted

OF_THE_STEPS = {"constraint_step_size", "validation_loss_before", "validation_loss_after"}
OF_THE_WEIGHTS = {"effective_rows_0", "effective_rows_1"}


class Counting(Net):
    """Counts its forward passes, and the rows in them."""

    passes: ClassVar[list[tuple[bool, int]]] = []

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        self.passes.append((self.training, len(X)))
        return super().forward(X)


def passes(name: str, **settings: Any) -> list[tuple[bool, int]]:
    Counting.passes = []
    fitted(name, module=Counting, **settings)
    return Counting.passes


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_off_by_default_and_without_influence(name: str) -> None:
    plain, watched = fitted(name), fitted(name, diagnostics=True)
    assert_same(plain, watched)
    assert not (OF_THE_STEPS | OF_THE_WEIGHTS | {"at_floor"}) & set(plain.history_[-1])
    assert passes(name) == passes(name, diagnostics=True), "not a single pass more or less"


def test_of_ours() -> None:
    fit = fitted("ours", diagnostics=True, warmup_epochs=1, max_epochs=2, weighting__n_constraint_steps=3)
    first, *stage_two = fit.history_
    assert not (OF_THE_STEPS | OF_THE_WEIGHTS | {"at_floor"}) & set(first)
    for row in stage_two:
        assert row["validation_loss_after"] < row["validation_loss_before"]
        assert row["constraint_step_size"] > 0
        assert 0 <= row["at_floor"] <= 1
    _, y = data()
    for label in (0, 1):
        w = fit.example_weights_[y[:N_ROWS] == label]
        assert stage_two[-1][f"effective_rows_{label}"] == pytest.approx(
            w.sum() ** 2 / (w**2).sum(), rel=1e-9
        )
    assert stage_two[-1]["at_floor"] == pytest.approx((fit.example_weights_ <= 0).mean())


def test_of_methods_that_store_no_weights() -> None:
    fit = fitted("absgd", diagnostics=True)
    assert set(fit.history_[-1]) >= OF_THE_WEIGHTS
    assert not (OF_THE_STEPS | {"at_floor"}) & set(fit.history_[-1])
    _, y = data()
    w = fit.example_weights_[y[:N_ROWS] == 1]
    assert fit.history_[-1]["effective_rows_1"] == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-9)


def test_a_floor_that_many_weights_lie_on() -> None:
    fit = fitted("hu", diagnostics=True, weighting__initial_weight=1e-5, weighting__floor=1e-4)
    assert fit.history_[-1]["at_floor"] > 0.1
    assert fit.history_[-1]["at_floor"] == pytest.approx(np.mean(fit.example_weights_ <= 1e-4))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        # Training rows in training mode; virtual and real step share the one pass.
        ("none", {}, {(True, 16): 12}),
        ("absgd", {}, {(True, 16): 12}),
        ("term", {}, {(True, 16): 12}),
        ("top-loss", {}, {(True, 16): 12}),
        ("eg", {}, {(True, 16): 12}),
        ("ren", {}, {(True, 16): 12, (False, 4): 12}),
        ("meta", {}, {(True, 16): 12, (False, 4): 12}),
        ("meta-weight-net", {}, {(True, 16): 12, (False, 4): 12}),
        ("hu", {}, {(True, 16): 12, (False, 4): 12}),
        # A constraint step: rows and validation rows in one pass, and L_val at the new parameters.
        ("ours", {}, {(True, 16): 12, (False, 20): 12, (False, 4): 24}),
        ("ours", {"weighting__n_constraint_steps": 2}, {(True, 16): 12, (False, 20): 24, (False, 4): 36}),
    ],
)
def test_passes_of_a_fit(name: str, settings: dict[str, Any], expected: dict[tuple[bool, int], int]) -> None:
    """Twelve steps. An evaluation an epoch and the comparison of a first batch's products come on top."""
    counts: dict[tuple[bool, int], int] = {}
    for key in passes(name, **settings):
        counts[key] = counts.get(key, 0) + 1
    n_evaluations = 3
    for key, n in expected.items():
        extra = counts[key] - n - (n_evaluations if key == (False, 4) else 0)
        assert 0 <= extra <= 2, (key, counts)

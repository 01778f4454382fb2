"""Mixing and calibration against slow twins."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from skreweight._ensemble.probabilities import RIDGE, calibrated, mixed


def sample(n=400, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    shares = np.array([0.7, 0.2, 0.1])[:n_classes] / np.sum([0.7, 0.2, 0.1][:n_classes])
    codes = rng.choice(n_classes, n, p=shares)
    evidence = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[codes]
    return codes, softmax(1.5 * evidence + np.log(shares), axis=1), shares


def test_a_balanced_kind_is_brought_to_the_shares() -> None:
    _, proba, shares = sample()
    balanced = proba / shares
    balanced /= balanced.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixed([(balanced, np.zeros(3))], np.log(shares)), proba, rtol=1e-10)
    np.testing.assert_allclose(
        mixed([(proba, np.log(shares)), (balanced, np.zeros(3))], np.log(shares)), proba, rtol=1e-10
    )


def test_two_kinds_are_mixed_as_the_formula_says() -> None:
    _, one, shares = sample()
    _, other, _ = sample(seed=1)
    for p, q, made in zip(
        one, other, mixed([(one, np.log(shares)), (other, np.zeros(3))], np.log(shares)), strict=False
    ):
        first = (p / shares) / (p / shares).sum()
        point = shares * np.sqrt(first * q)
        np.testing.assert_allclose(made, point / point.sum(), rtol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_calibration_undoes_a_temperature_and_offsets(n_classes: int) -> None:
    codes, proba, shares = sample(60_000, n_classes)
    bent = softmax(2.5 * np.log(proba / shares) + np.log(shares) + np.arange(n_classes), axis=1)
    found = calibrated(bent, codes, np.ones(len(codes)), np.log(shares))
    np.testing.assert_allclose(found(bent), proba, atol=0.02)
    assert found.temperature == pytest.approx(1 / 2.5, abs=0.02)


def test_calibration_is_at_a_minimum_and_weights_are_repetitions() -> None:
    codes, proba, shares = sample()
    times = np.random.default_rng(2).integers(1, 4, len(codes))
    found = calibrated(proba, codes, times.astype(float), np.log(shares))
    again = calibrated(
        np.repeat(proba, times, axis=0), np.repeat(codes, times), np.ones(times.sum()), np.log(shares)
    )
    np.testing.assert_allclose(found.offsets, again.offsets, atol=1e-4)

    def objective(temperature, offsets):
        p = softmax(temperature * np.log(proba / shares) + np.log(shares) + offsets, axis=1)
        return log_loss(codes, p, sample_weight=times) + RIDGE * ((temperature - 1) ** 2 + (offsets**2).sum())

    best = objective(found.temperature, found.offsets)
    for d in (1e-2, -1e-2):
        assert objective(found.temperature + d, found.offsets) > best
        for shift in np.eye(3) * d:
            assert objective(found.temperature, found.offsets + shift) > best


def test_offsets_alone_make_the_mean_probability_the_share() -> None:
    codes, proba, shares = sample(5000)
    bent = softmax(np.log(proba) + np.array([0, 2, -1]), axis=1)
    found = calibrated(bent, codes, np.ones(len(codes)), np.log(shares), offsets_only=True)
    assert found.temperature == 1
    np.testing.assert_allclose(found(bent).mean(axis=0), np.bincount(codes) / len(codes), atol=2e-3)


def test_probabilities_of_zero_are_borne() -> None:
    codes, proba, shares = sample()
    proba = np.where(proba < 0.2, 0, proba)
    proba /= proba.sum(axis=1, keepdims=True)
    assert np.isfinite(calibrated(proba, codes, np.ones(len(codes)), np.log(shares))(proba)).all()

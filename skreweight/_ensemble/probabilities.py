"""One set of probabilities out of the members', calibrated on the rows they held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

FloatArray = NDArray[np.float64]

#: Probabilities below this are as good as none: float32 rounds them to 0.
SMALLEST = 1e-12
#: The ridge on the offsets and on the temperature's distance from 1.
RIDGE = 1e-4


def log_of(proba: FloatArray) -> FloatArray:
    """Return the logarithm of probabilities, which may be 0."""
    log: FloatArray = np.log(np.clip(proba, SMALLEST, None))
    return log


def mixed(parts: Sequence[tuple[FloatArray, FloatArray]], log_shares: FloatArray) -> FloatArray:
    r"""Bring the probabilities of several kinds of members to one prior and take their geometric mean.

    .. math:: p_c \propto \pi_c \prod_j \Big(\tfrac{p_{jc}/\pi_{jc}}{\sum_d p_{jd}/\pi_{jd}}\Big)^{1/J}

    Parameters
    ----------
    parts : sequence of J pairs of ndarray, shapes (n_rows, C) and (C,)
        Probabilities of a kind, and the logarithm of the class shares π_j that they stand for.
    log_shares : ndarray of shape (C,)
        The logarithm of π, the shares that the result stands for.
    """
    balanced = sum(log_softmax(log_of(proba) - own, axis=1) for proba, own in parts) / len(parts)
    result: FloatArray = softmax(balanced + log_shares, axis=1)
    return result


@dataclass(frozen=True)
class Calibration:
    r"""A temperature and an offset a class.

    .. math:: p'_c \propto \exp(a (\log p_c - \log \pi_c) + \log \pi_c + b_c)

    Attributes
    ----------
    temperature : float
        a.
    offsets : ndarray of shape (C,)
        b.
    log_shares : ndarray of shape (C,)
        log π.
    """

    temperature: float
    offsets: FloatArray
    log_shares: FloatArray

    def __call__(self, proba: FloatArray) -> FloatArray:
        """Return calibrated probabilities, (n_rows, C)."""
        result: FloatArray = softmax(
            self.temperature * (log_of(proba) - self.log_shares) + self.log_shares + self.offsets, axis=1
        )
        return result


def calibrated(
    proba: FloatArray,
    codes: NDArray[np.int64],
    weights: FloatArray,
    log_shares: FloatArray,
    *,
    offsets_only: bool = False,
) -> Calibration:
    """Find the calibration of maximum likelihood.

    The mean log loss plus ``RIDGE`` (|b|² + (a − 1)²) is minimised by BFGS.

    Parameters
    ----------
    proba : ndarray of shape (n_rows, C)
    codes, weights : ndarray of shape (n_rows,)
    log_shares : ndarray of shape (C,)
    offsets_only : bool, default=False
        Whether a stays at 1.
    """
    evidence = log_of(proba) - log_shares
    shares, observed = weights / weights.sum(), np.eye(len(log_shares))[codes]

    def loss(point: FloatArray) -> tuple[float, FloatArray]:
        temperature = 1.0 if offsets_only else point[0]
        log_p = log_softmax(temperature * evidence + log_shares + point[1:], axis=1)
        slope = shares[:, None] * (np.exp(log_p) - observed)
        gradient = np.concatenate([[(slope * evidence).sum()], slope.sum(axis=0)])
        from_start = point - start
        if offsets_only:
            gradient[0] = 0.0
        value = -(shares[:, None] * observed * log_p).sum() + RIDGE * (from_start @ from_start)
        return float(value), gradient + 2 * RIDGE * from_start

    start = np.concatenate([[1.0], np.zeros(len(log_shares))])
    best = minimize(loss, start, jac=True, method="BFGS").x
    return Calibration(float(best[0]), best[1:], log_shares)

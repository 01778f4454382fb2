"""The members' probabilities made one, as their held-out rows say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skreweight._ensemble import probabilities
from skreweight._ensemble.folds import IntArray
from skreweight._ensemble.kinds import Kind
from skreweight._ensemble.probabilities import Calibration, FloatArray


@dataclass(frozen=True)
class Mixture:
    """Kinds of members, what their probabilities stand for, and the calibration of the mixed ones.

    Attributes
    ----------
    kinds : list of Kind
    log_priors : list of ndarray of shape (C,)
        The logarithm of the class shares that each kind's probabilities stand for.
    log_shares : ndarray of shape (C,)
        That of the class shares that the mixed ones stand for.
    calibration : Calibration or None
    """

    kinds: list[Kind]
    log_priors: list[FloatArray]
    log_shares: FloatArray
    calibration: Calibration | None

    def __call__(self, x: Any) -> FloatArray:
        """Return the probabilities of encoded rows, (n_rows, C)."""
        return self._of([kind.mean_proba(x) for kind in self.kinds])

    def _of(self, by_kind: Sequence[FloatArray]) -> FloatArray:
        mixed = probabilities.mixed(list(zip(by_kind, self.log_priors, strict=True)), self.log_shares)
        return mixed if self.calibration is None else self.calibration(mixed)


def learned(
    kinds: list[Kind], x: Any, codes: IntArray, weights: FloatArray, n_classes: int, *, calibrates: bool
) -> tuple[Mixture, FloatArray, FloatArray]:
    """Learn from the rows that members held out how their probabilities are mixed.

    Parameters
    ----------
    kinds : list of Kind
    x : encoded rows
    codes, weights : ndarray of shape (n_rows,)
    n_classes : int
    calibrates : bool

    Returns
    -------
    mixture : Mixture
    proba : ndarray of shape (n_rows, C)
        The probabilities of each row by members that held it out.
    used : ndarray of shape (n_rows,)
        The weights of the rows that were held out by members of every kind, scaled to the class shares of all rows;
        0 for others. Where such rows do not hold every class, all count.
    """
    sums = np.bincount(codes, weights, minlength=n_classes)
    log_shares = np.log(sums / sums.sum())
    found = [kind.out_of_fold(x, n_classes) for kind in kinds]
    used = weights * np.logical_and.reduce([counts > 0 for _, counts in found])
    left = np.bincount(codes, used, minlength=n_classes)
    # A weighting may have learned from more of one class than of another: the rows that are left stand for all.
    used = weights if (left == 0).any() else used * (sums / np.where(left == 0, 1, left))[codes]
    some = used > 0
    priors = [
        _log_prior(kind, proba[some], codes[some], used[some], log_shares)
        for kind, (proba, _) in zip(kinds, found, strict=True)
    ]
    mixed = Mixture(kinds, priors, log_shares, None)._of([proba for proba, _ in found])
    if not calibrates:
        return Mixture(kinds, priors, log_shares, None), mixed, used
    calibration = probabilities.calibrated(mixed[some], codes[some], used[some], log_shares)
    return Mixture(kinds, priors, log_shares, calibration), calibration(mixed), used


def _log_prior(
    kind: Kind, proba: FloatArray, codes: IntArray, weights: FloatArray, log_shares: FloatArray
) -> FloatArray:
    """Return the logarithm of the class shares that a kind's probabilities stand for."""
    if kind.prior == "natural":
        return log_shares
    if kind.prior == "balanced":
        return np.zeros_like(log_shares)
    shift = probabilities.calibrated(proba, codes, weights, log_shares, offsets_only=True)
    return log_shares - shift.offsets

"""Which rows each member holds out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """What one member trains on and what it holds out, as row numbers."""

    train: IntArray
    held: IntArray


def stratified_folds(
    codes: IntArray, candidates: IntArray, n_folds: int, n_repeats: int, random_state: np.random.RandomState
) -> IntArray:
    """Deal the rows of every class out to the folds, one after another.

    The next class goes on where the last one ended, so that folds differ by one row at most, and so does the number
    of rows of any class in them. (StratifiedKFold gives the first folds the spare rows of every class.)

    Parameters
    ----------
    codes : ndarray of shape (N,)
        Class codes.
    candidates : ndarray of shape (n,)
        The rows that are dealt.
    n_folds, n_repeats : int
    random_state : RandomState

    Returns
    -------
    ndarray of shape (n_repeats, N)
        The fold of each row in each round; −1 for rows that are not dealt.

    Raises
    ------
    ValueError
        For more folds than rows.
    """
    if len(candidates) < n_folds:
        raise ValueError(
            f"n_folds={n_folds} needs at least as many rows, got n_samples={len(candidates)}: choose fewer folds."
        )
    folds = np.full((n_repeats, len(codes)), -1, dtype=np.int64)
    for of_round in folds:
        order = random_state.permutation(candidates)
        order = order[np.argsort(codes[order], kind="stable")]
        of_round[order] = np.arange(len(order)) % n_folds
    return folds


def splits(folds: IntArray, codes: IntArray, n_folds: int) -> list[Split]:
    """Return the members' rows, round by round and fold by fold.

    The rows of a class that lies in one fold as a whole are trained on by the member that holds them out, too: it
    would not know the class.
    """
    found = []
    for of_round in folds:
        for k in range(n_folds):
            held, train = np.flatnonzero(of_round == k), np.flatnonzero((of_round >= 0) & (of_round != k))
            unknown = held[~np.isin(codes[held], codes[train])]
            found.append(Split(np.sort(np.concatenate([train, unknown])), held))
    return found

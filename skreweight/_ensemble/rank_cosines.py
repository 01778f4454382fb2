"""Columns of numbers as cosines of their rank: what lets a network bend each of them, at no cost in training."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

#: Cosines a column: half a wave over all ranks, one wave, one and a half.
N_WAVES = 3
#: The rank is linear between so many quantiles, or fewer where a column has fewer values.
MOST_KNOTS = 1024


class RankCosines:
    r"""Cosines of the rank of a value among the rows of `fit`.

    .. math:: x_j \mapsto (\cos \pi u_j, \cos 2\pi u_j, \cos 3\pi u_j), \qquad u_j = \hat F_j(x_j) \in (0, 1)

    for the empirical distribution function of the column, half of the ties counted, linear between the values that
    were seen and constant outside. On the rows of `fit` the cosines are all but orthogonal.

    They stand where RealMLP learns its cosines (`skreweight.modules.PeriodicEmbedding`), which take two thirds of
    the time of its training; these are computed once.

    Attributes
    ----------
    knots : list of pairs of ndarray
        Values and ranks of each column.
    """

    def __init__(self) -> None:
        self.knots: list[tuple[NDArray[Any], NDArray[np.float64]]] = []

    def fit(self, columns: NDArray[Any]) -> Self:
        """Learn the distribution of each column of an array of shape (n_rows, n_columns)."""
        self.knots = [_knots(column) for column in columns.T]
        return self

    def __call__(self, columns: NDArray[Any]) -> NDArray[np.float32]:
        """Return the cosines, shape (n_rows, N_WAVES · n_columns), wave by wave."""
        ranks = np.empty(columns.shape)
        for rank, column, knots in zip(ranks.T, columns.T, self.knots, strict=True):
            rank[:] = np.interp(column, *knots)
        waves = [np.cos(np.pi * wave * ranks).astype(np.float32) for wave in range(1, N_WAVES + 1)]
        return np.concatenate(waves, axis=1)


def _knots(column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    values, counts = np.unique(column, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / len(column)
    if len(values) > MOST_KNOTS:
        some = np.unique(
            np.searchsorted(ranks, np.linspace(ranks[0], ranks[-1], MOST_KNOTS)).clip(max=len(values) - 1)
        )
        values, ranks = values[some], ranks[some]
    return values, ranks

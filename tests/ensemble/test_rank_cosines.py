"""Cosines of ranks against ranks counted one by one."""

import numpy as np
import pytest

from skreweight._ensemble import rank_cosines
from skreweight._ensemble.rank_cosines import N_WAVES, RankCosines


def counted(column, value) -> float:
    """The share of rows below, with half of those that are equal."""
    return sum(1.0 if other < value else 0.5 if other == value else 0.0 for other in column) / len(column)


def test_rows_that_were_seen_have_the_ranks_that_counting_gives() -> None:
    rng = np.random.default_rng(0)
    columns = np.stack([rng.normal(size=60), rng.integers(0, 4, 60), rng.lognormal(0, 8, 60)], axis=1)
    cosines = RankCosines().fit(columns)(columns)
    ranks = np.array([[counted(c, v) for v in c] for c in columns.T]).T
    expected = np.concatenate([np.cos(np.pi * k * ranks) for k in range(1, N_WAVES + 1)], axis=1)
    assert cosines.dtype == np.float32
    np.testing.assert_allclose(cosines, expected, atol=1e-6)


def test_between_values_it_is_linear_and_outside_constant() -> None:
    cosines = RankCosines().fit(np.array([[0.0], [1.0], [3.0], [5.0]]))
    new = cosines(np.array([[-100.0], [2.0], [4.0], [100.0]]))[:, 0]
    np.testing.assert_allclose(new, np.cos(np.pi * np.array([1 / 8, 1 / 2, 3 / 4, 7 / 8])), atol=1e-6)


def test_few_knots_are_near_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    column = np.random.default_rng(0).lognormal(0, 3, (5000, 1))
    exact = RankCosines().fit(column[:1000])(column[:1000])
    monkeypatch.setattr(rank_cosines, "MOST_KNOTS", 100)
    few = RankCosines().fit(column[:1000])
    assert len(few.knots[0][0]) <= 100
    np.testing.assert_allclose(few(column[:1000]), exact, atol=0.1)
    assert few.knots[0][0][[0, -1]].tolist() == [column[:1000].min(), column[:1000].max()]


def test_no_column_is_no_cosine() -> None:
    assert RankCosines().fit(np.empty((5, 0)))(np.empty((3, 0))).shape == (3, 0)

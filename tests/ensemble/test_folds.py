"""Who holds out what."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skreweight._ensemble.folds import splits, stratified_folds

CODES = st.lists(st.integers(0, 3), min_size=6, max_size=60).map(np.array)


@given(CODES, st.integers(2, 5), st.integers(1, 3), st.integers(0, 9))
def test_every_row_is_held_out_once_a_round_and_classes_are_spread(codes, n_folds, n_repeats, seed) -> None:
    folds = stratified_folds(codes, np.arange(len(codes)), n_folds, n_repeats, np.random.RandomState(seed))
    assert folds.shape == (n_repeats, len(codes))
    for of_round in folds:
        assert np.ptp(np.bincount(of_round, minlength=n_folds)) <= 1
        for code in np.unique(codes):
            assert np.ptp(np.bincount(of_round[codes == code], minlength=n_folds)) <= 1
    members = splits(folds, codes, n_folds)
    held = np.concatenate([split.held for split in members])
    assert sorted(held.tolist()) == sorted(np.tile(np.arange(len(codes)), n_repeats).tolist())
    for split in members:
        assert set(codes[split.train]) == set(codes), "every member knows every class"
        both = np.intersect1d(split.train, split.held)
        assert all((codes == codes[row]).sum() == 1 for row in both)
        assert len(np.union1d(split.train, split.held)) == len(codes)


def test_rows_that_are_no_candidates_are_in_no_part() -> None:
    codes = np.array([0, 1] * 6)
    folds = stratified_folds(codes, np.arange(2, 12), 2, 1, np.random.RandomState(0))
    assert folds[0, :2].tolist() == [-1, -1]
    for split in splits(folds, codes, 2):
        assert not {0, 1} & {*split.train, *split.held}


def test_more_folds_than_rows() -> None:
    with pytest.raises(ValueError, match=r"n_folds=5 .* got n_samples=3: choose fewer folds\."):
        stratified_folds(np.array([0, 1, 1]), np.arange(3), 5, 1, np.random.RandomState(0))

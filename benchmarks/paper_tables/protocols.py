"""Which rows are drawn for a seed, and how they are preprocessed."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler

from skreweight.datasets import fetch_aps_failure, fetch_benchmark, load_cifar, load_sst
from skreweight.datasets.imbalance import draw_counts, subsample

N_FOLDS = 5
#: APS: test rows per class on the whole files, and on files with too few positives for that.
APS_TEST_ROWS, APS_TEST_ROWS_OF_PARTIAL_FILES = 1000, 300


class Data(NamedTuple):
    """Training, balanced validation and test rows of one draw; y holds class codes.

    ``rare`` is the code of the rare class of two-class data, whose average precision is reported.
    """

    X_train: NDArray[Any]
    y_train: NDArray[np.int64]
    X_val: NDArray[Any] | None
    y_val: NDArray[np.int64] | None
    X_test: NDArray[Any]
    y_test: NDArray[np.int64]
    rare: int


def aps_failure(
    *, imputation: str, scaling: str, data_home: str | None, seed: int, n_negative: int = 10_000
) -> Data:
    """Liu et al., Table 8: 10,000 negatives and 10 positives, 5 validation rows a class, a balanced test.

    Parameters
    ----------
    imputation : {"class-mean", "mean"}
        "class-mean" is the paper's: a missing value becomes the mean of the row's own class, test rows
        included, and the scaler sees all rows. That tells the network the labels of the test rows.
        "mean" is honest: means and scales are those of the training rows.
    scaling : {"min-max", "quantile"}
    """
    X, y = _aps_rows(data_home)
    n_test = APS_TEST_ROWS if (y == 1).sum() > 1015 else APS_TEST_ROWS_OF_PARTIAL_FILES
    draw = draw_counts(y, {0: n_negative, 1: 10}, validation=5, test=n_test, random_state=seed)
    scaler = MinMaxScaler() if scaling == "min-max" else QuantileTransformer(random_state=0)
    if imputation == "class-mean":
        X = scaler.fit_transform(_filled_by_class(X, y))
        parts = [X[rows] for rows in draw]
    else:
        imputer = SimpleImputer(keep_empty_features=True)
        fitted = scaler.fit_transform(imputer.fit_transform(X[draw.train]))
        parts = [fitted, *(scaler.transform(imputer.transform(X[rows])) for rows in draw[1:])]
    train, validation, test = (part.astype(np.float32) for part in parts)
    return Data(train, y[draw.train], validation, y[draw.validation], test, y[draw.test], rare=1)


@cache
def _aps_rows(data_home: str | None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    aps: Any = fetch_aps_failure(data_home, "all", as_frame=False, download_if_missing=False)
    return aps.data, (aps.target == "pos").astype(np.int64)


def _filled_by_class(X: NDArray[Any], y: NDArray[np.int64]) -> NDArray[Any]:
    filled = X.copy()
    for code in np.unique(y):
        filled[y == code] = SimpleImputer(keep_empty_features=True).fit_transform(X[y == code])
    return filled


def sentences(
    *,
    k: int,
    n_rare: int,
    n_common: int,
    standardised: bool,
    data_home: str | None,
    seed: int,
    n_validation: int = 10,
    scored_on: str = "test",
) -> Data:
    """Liu et al., section 4.2: class 0 is rare, 10 validation rows a class, the data's own test split.

    ``scored_on="dev"`` takes the dev split in its place, for trials that must not see the test.
    """
    sst: Any = load_sst(k, data_home)
    counts = {0: n_rare, **{c: n_common for c in range(1, k)}}
    train, test = sst.split == "train", sst.split == scored_on
    draw = draw_counts(
        sst.target, counts, validation=n_validation, rows=train, test_rows=test, random_state=seed
    )
    X = sst.data
    if standardised:
        X = StandardScaler().fit(X[draw.train]).transform(X).astype(np.float32)
    return _taken(X, sst.target, draw)


def apple_or_fish(*, n_rare: int, n_common: int, data_home: str | None, seed: int, side: int = 32) -> Data:
    """Liu et al., Table 6: classes 0 and 1 of CIFAR-100, 10 validation rows a class, all 200 test images.

    ``side`` below 32 is a stand-in: means of neighbouring pixels, scaled by the training images.
    """
    X, y = load_cifar("cifar100-apple-fish", data_home, scaled=True, return_X_y=True)
    draw = draw_counts(y, {0: n_rare, 1: n_common}, validation=10, random_state=seed)
    X_test, y_test = load_cifar("cifar100-apple-fish", data_home, split="test", scaled=True, return_X_y=True)
    data = _taken(X, y, draw)._replace(X_test=X_test, y_test=y_test)
    if side == 32:
        return data
    small = [_shrunk(images, side) for images in (data.X_train, data.X_val, data.X_test)]
    mean, std = (f(small[0], axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    X_train, X_val, X_test = ((images - mean) / std for images in small)
    return data._replace(X_train=X_train, X_val=X_val, X_test=X_test)


def _shrunk(images: NDArray[Any], side: int) -> NDArray[Any]:
    n, channels, height, _ = images.shape
    step = height // side
    return images.reshape(n, channels, side, step, side, step).mean(axis=(3, 5), dtype=np.float32)


def long_tailed_cifar(*, data_home: str | None, seed: int, share: float = 1.0) -> Data:
    """Qi et al., Table 1: CIFAR-10 long-tailed, ratio 100; the draw is fixed, the seed is the network's.

    ``share`` below 1 is a stand-in for tests: so many of the images of every class, at least 2.
    """
    parts = []
    for split in ("train", "test"):
        X, y = load_cifar("cifar10-lt100", data_home, split=split, scaled=True, return_X_y=True)
        if share < 1:
            counts = np.maximum(2, np.bincount(y) * share).astype(int)
            rows = subsample(y, counts, random_state=seed)
            X, y = X[rows], y[rows]
        parts += [X, y]
    X_train, y_train, X_test, y_test = parts
    return Data(X_train, y_train, None, None, X_test, y_test, rare=9)


def benchmark_fold(*, name: str, data_home: str | None, seed: int) -> Data:
    """One fold of five of an imbalanced-learn set; "seed" is the number of the fold, five to a shuffle.

    Up to 10 validation rows a class, at most a fifth of the rare training rows, are taken off the training
    fold. Means and scales are those of the rows that are left.
    """
    bunch = fetch_benchmark([name], data_home, download_if_missing=False)[name]
    X, y = np.asarray(bunch.data, dtype=np.float64), (bunch.target == 1).astype(np.int64)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed // N_FOLDS).split(X, y)
    train, test = list(folds)[seed % N_FOLDS]
    n_validation = max(1, min(10, int((y[train] == 1).sum()) // 5))
    validation = subsample(y, n_validation, rows=train, random_state=seed)
    train = np.setdiff1d(train, validation)
    scaler = StandardScaler().fit(X[train])
    parts = (scaler.transform(X[rows]).clip(-10, 10).astype(np.float32) for rows in (train, validation, test))
    X_train, X_val, X_test = parts
    return Data(X_train, y[train], X_val, y[validation], X_test, y[test], rare=1)


def _taken(X: NDArray[Any], y: NDArray[np.int64], draw: Any) -> Data:
    train, validation, test = draw
    return Data(X[train], y[train], X[validation], y[validation], X[test], y[test], rare=0)

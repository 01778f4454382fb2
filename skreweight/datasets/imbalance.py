"""The papers' ways of making data imbalanced or noisy, as row indices, class counts and labels.

Nothing here touches the features: each function reads labels and returns which rows to take, how many, or
which labels to train on.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state, column_or_1d

Counts = int | Mapping[Any, int] | Sequence[int] | NDArray[np.integer]
Seed = int | np.random.RandomState | None

__all__ = ["Draw", "draw_counts", "flip_labels", "long_tailed_counts", "step_counts", "subsample"]


class Draw(NamedTuple):
    """Row indices of one draw, each ascending; no row is in two of them.

    Attributes
    ----------
    train : ndarray of shape (n_train,), int
    validation : ndarray of shape (n_validation,), int
    test : ndarray of shape (n_test,), int
    """

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


def draw_counts(
    y: ArrayLike,
    train: Counts,
    *,
    validation: Counts = 0,
    test: Counts | None = None,
    rows: ArrayLike | None = None,
    test_rows: ArrayLike | None = None,
    random_state: Seed = None,
) -> Draw:
    """Draw so many rows of each class for training, validation and test, without replacement.

    The protocol of Liu et al. (2022), section 4.2 and appendix A.1: an imbalanced training set and a small
    balanced validation set that share no row, tested on the data's own test set or on balanced rows left out.

    Counts are given as a mapping from class to number of rows (classes not named get none), as one number per
    class in the order of ``np.unique(y)``, or as one int for every class that is named in `train`.

    With the same seed, the test and validation rows do not depend on `train`, and the training rows of a
    smaller count are among those of a larger one: experiments at several ratios are paired.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        The class of each row, of any dtype.
    train : int, mapping or sequence of int
        Rows of each class for training.
    validation : int, mapping or sequence of int, default=0
        Rows of each class for validation.
    test : int, mapping or sequence of int, default=None
        Rows of each class for testing. None: all of `test_rows` whose class is named in `train`, and no row
        where there are no `test_rows`.
    rows : array-like of int or bool, default=None
        Indices, or a mask, of the rows to draw from; None: all but `test_rows`.
    test_rows : array-like of int or bool, default=None
        Indices, or a mask, of a fixed pool of test rows; no training or validation row is taken from it.
        None: test rows are drawn from `rows`.
    random_state : int, RandomState instance or None, default=None
        Which rows.

    Returns
    -------
    draw : Draw
        The index arrays `train`, `validation` and `test`.

    Raises
    ------
    ValueError
        If a class has too few rows, or a class is named that is not in `y`.

    Examples
    --------
    Table 8 of Liu et al. is ``draw_counts(y, {"neg": 10_000, "pos": 10}, validation=5, test=1_000)``; with
    fewer rows:

    >>> import numpy as np
    >>> from skreweight.datasets.imbalance import draw_counts
    >>> y = np.repeat(["neg", "pos"], [1500, 150])
    >>> draw = draw_counts(y, {"neg": 1000, "pos": 10}, validation=5, test=100, random_state=0)
    >>> [np.unique(y[rows], return_counts=True)[1].tolist() for rows in draw]
    [[1000, 10], [5, 5], [100, 100]]
    """
    labels, codes = _encode(y)
    named = np.array([not isinstance(train, Mapping) or label in train for label in labels.tolist()])
    n_train = _per_class(train, labels, named, "train")
    n_validation = _per_class(validation, labels, named, "validation")

    test_pool = _row_indices([] if test_rows is None else test_rows, len(codes), "test_rows")
    pool = np.arange(len(codes)) if rows is None else _row_indices(rows, len(codes), "rows")
    rng = check_random_state(random_state)
    shuffled = _shuffled_by_class(np.setdiff1d(pool, test_pool), codes, len(labels), rng)

    # Test and validation are cut off first, so that they do not depend on how many rows train takes.
    if test_rows is None:
        n_test = _per_class(0 if test is None else test, labels, named, "test")
        parts = _cut(shuffled, labels, {"test": n_test, "validation": n_validation, "train": n_train})
    else:
        parts = _cut(shuffled, labels, {"validation": n_validation, "train": n_train})
        shuffled = _shuffled_by_class(test_pool, codes, len(labels), rng)
        if test is None:
            n_test = np.where(named, [len(members) for members in shuffled], 0)
        else:
            n_test = _per_class(test, labels, named, "test")
        parts |= _cut(shuffled, labels, {"test": n_test})
    return Draw(**parts)


def subsample(
    y: ArrayLike, counts: Counts, *, rows: ArrayLike | None = None, random_state: Seed = None
) -> NDArray[np.intp]:
    """Draw so many rows of each class, without replacement.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        The class of each row.
    counts : int, mapping or sequence of int
        Rows of each class, as in :func:`draw_counts`.
    rows : array-like of int or bool, default=None
        Indices, or a mask, of the rows to draw from; None: all.
    random_state : int, RandomState instance or None, default=None
        Which rows. With the same seed, the rows of a smaller count are among those of a larger one.

    Returns
    -------
    indices : ndarray of shape (n_drawn,), int
        Ascending.

    Raises
    ------
    ValueError
        If a class has too few rows, or a class is named that is not in `y`.

    Examples
    --------
    The long-tailed training sets of Qi et al. (2023), section 4, at a hundredth of their size:

    >>> import numpy as np
    >>> from skreweight.datasets.imbalance import long_tailed_counts, subsample
    >>> y = np.repeat(np.arange(10), 50)
    >>> kept = subsample(y, long_tailed_counts(50, 10, 10), random_state=0)
    >>> np.bincount(y[kept])
    array([50, 38, 29, 23, 17, 13, 10,  8,  6,  5])
    """
    return draw_counts(y, counts, rows=rows, random_state=random_state).train


def long_tailed_counts(n_max: int, ratio: float, n_classes: int) -> NDArray[np.int64]:
    """Return class counts that fall geometrically from the first class to the last.

    Class i of C has n_i = n_0 ρ^(-i / (C - 1)) rows (Qi et al., eq. 8), rounded down; n_0 is `n_max` and ρ is
    `ratio`, the first count over the last.

    Parameters
    ----------
    n_max : int
        Rows of the first class.
    ratio : float
        Rows of the first class for each row of the last, at least 1.
    n_classes : int
        At least 2.

    Returns
    -------
    counts : ndarray of shape (n_classes,), int

    Raises
    ------
    ValueError
        If a parameter is out of its range, or the last class gets no row.

    Examples
    --------
    >>> from skreweight.datasets.imbalance import long_tailed_counts
    >>> long_tailed_counts(5000, 100, 10)
    array([5000, 2997, 1796, 1077,  645,  387,  232,  139,   83,   50])
    """
    _check_profile(n_max, ratio, n_classes)
    exact = n_max * float(ratio) ** (-np.arange(n_classes) / (n_classes - 1))
    # Without the last digits a count that is whole, such as 5000 / 100, could come out one short.
    return np.floor(np.round(exact, 6)).astype(np.int64)


def step_counts(
    n_max: int, ratio: float, n_classes: int, *, n_minority: int | None = None
) -> NDArray[np.int64]:
    """Return class counts of two sizes: the first classes are frequent, the last are rare.

    Step imbalance of Qi et al., section 4, after Buda et al. (2018): `n_max` rows in a majority class,
    `n_max` / `ratio` rows, rounded down, in a minority class.

    Parameters
    ----------
    n_max : int
        Rows of a majority class.
    ratio : float
        Rows of a majority class for each row of a minority class, at least 1.
    n_classes : int
        At least 2.
    n_minority : int, default=None
        Number of minority classes, from 1 to `n_classes` - 1; None: half of them, rounded down.

    Returns
    -------
    counts : ndarray of shape (n_classes,), int

    Raises
    ------
    ValueError
        If a parameter is out of its range, or a minority class gets no row.

    Examples
    --------
    >>> from skreweight.datasets.imbalance import step_counts
    >>> step_counts(5000, 100, 10)
    array([5000, 5000, 5000, 5000, 5000,   50,   50,   50,   50,   50])
    """
    _check_profile(n_max, ratio, n_classes)
    n_minority = n_classes // 2 if n_minority is None else n_minority
    if not 1 <= n_minority < n_classes:
        raise ValueError(f"n_minority must be from 1 to {n_classes - 1}, got {n_minority}.")
    return np.repeat([n_max, int(n_max / ratio)], [n_classes - n_minority, n_minority])


def flip_labels(y: ArrayLike, noise: float | ArrayLike, *, random_state: Seed = None) -> NDArray[Any]:
    """Return labels of which some are wrong.

    Every row is drawn by itself: a row of class a becomes one of class b with probability T[a, b].

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        The true class of each row, of any dtype.
    noise : float or array-like of shape (n_classes, n_classes)
        A number from 0 to 1 is symmetric noise: that is the probability of a wrong label, and each wrong
        class is as likely as the others. A matrix is T itself, classes in the order of ``np.unique(y)``, each
        row summing to 1.
    random_state : int, RandomState instance or None, default=None
        Which labels.

    Returns
    -------
    noisy : ndarray of shape (n_rows,)
        Labels in the dtype of `y`. The wrong ones are ``noisy != y``.

    Raises
    ------
    ValueError
        If `noise` is no probability, or no matrix of them that fits the classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skreweight.datasets.imbalance import flip_labels
    >>> y = np.repeat(["cat", "dog"], 1000)
    >>> noisy = flip_labels(y, [[1.0, 0.0], [0.3, 0.7]], random_state=0)
    >>> bool((noisy[:1000] == "cat").all())
    True
    >>> float((noisy[1000:] == "cat").mean())
    0.3
    """
    labels, codes = _encode(y)
    transition = _transition(noise, len(labels))
    rng = check_random_state(random_state)
    noisy = np.empty_like(codes)
    for code, probabilities in enumerate(transition):
        members = codes == code
        noisy[members] = rng.choice(len(labels), size=members.sum(), p=probabilities)
    return labels[noisy]


def _encode(y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes in ascending order and the position of each row's class among them."""
    labels, codes = np.unique(column_or_1d(y), return_inverse=True)
    return labels, codes


def _row_indices(rows: ArrayLike, n_rows: int, name: str) -> NDArray[np.intp]:
    """Return distinct row indices in ascending order, from indices or a mask."""
    given = np.asarray(rows)
    if given.dtype == bool:
        if given.shape != (n_rows,):
            raise ValueError(f"{name} is a mask of shape {given.shape}; y has {n_rows} rows.")
        return np.flatnonzero(given)
    indices = np.unique(given.astype(np.intp, casting="same_kind") if given.size else np.empty(0, np.intp))
    if indices.size and (indices[0] < 0 or indices[-1] >= n_rows):
        raise ValueError(f"{name} must be from 0 to {n_rows - 1}, got {indices[0]} to {indices[-1]}.")
    return indices


def _per_class(
    counts: Counts, labels: NDArray[Any], named: NDArray[np.bool_], name: str
) -> NDArray[np.int64]:
    """Return the number of rows asked for of each class."""
    if isinstance(counts, Mapping):
        present = labels.tolist()
        if unknown := [label for label in counts if label not in present]:
            raise ValueError(
                f"{name} names the class {unknown[0]!r}, which is not in y; its classes are {present}."
            )
        asked = [counts.get(label, 0) for label in present]
    elif isinstance(counts, Sequence | np.ndarray):
        asked = list(counts)
        if len(asked) != len(labels):
            raise ValueError(f"{name} has {len(asked)} counts; y has {len(labels)} classes.")
    else:
        asked = np.where(named, counts, 0).tolist()
    per_class = np.array([operator.index(count) for count in asked], dtype=np.int64)
    if (per_class < 0).any():
        raise ValueError(f"{name} asks for {per_class.min()} rows of a class; give numbers from 0 up.")
    return per_class


def _shuffled_by_class(
    pool: NDArray[np.intp], codes: NDArray[np.intp], n_classes: int, rng: np.random.RandomState
) -> list[NDArray[np.intp]]:
    """Return the rows of the pool in random order, class by class."""
    by_class = pool[np.argsort(codes[pool], kind="stable")]
    ends = np.cumsum(np.bincount(codes[pool], minlength=n_classes))
    return [rng.permutation(members) for members in np.split(by_class, ends[:-1])]


def _cut(
    shuffled: list[NDArray[np.intp]], labels: NDArray[Any], sizes: dict[str, NDArray[np.int64]]
) -> dict[str, NDArray[np.intp]]:
    """Cut the rows of each class into consecutive parts, and join each part over the classes."""
    for i, (label, members) in enumerate(zip(labels.tolist(), shuffled, strict=True)):
        asked = {part: int(size[i]) for part, size in sizes.items()}
        if sum(asked.values()) > len(members):
            wanted = " + ".join(f"{count} ({part})" for part, count in asked.items())
            raise ValueError(f"Class {label!r} has {len(members)} rows to draw from; asked for {wanted}.")
    parts = {}
    start = np.zeros(len(labels), dtype=np.int64)
    for part, size in sizes.items():
        pieces = [members[a:b] for members, a, b in zip(shuffled, start, start + size, strict=True)]
        parts[part] = np.sort(np.concatenate(pieces))
        start = start + size
    return parts


def _check_profile(n_max: int, ratio: float, n_classes: int) -> None:
    """Check the parameters that the count profiles share."""
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2, got {n_classes}.")
    if ratio < 1:
        raise ValueError(f"ratio must be at least 1, got {ratio}.")
    if n_max < ratio:
        raise ValueError(f"The rarest class would get no row: n_max={n_max} is less than ratio={ratio}.")


def _transition(noise: float | ArrayLike, n_classes: int) -> NDArray[np.float64]:
    """Return the matrix of label changes that a rate or a matrix stands for."""
    given = np.asarray(noise, dtype=np.float64)
    if given.ndim == 0:
        if not 0 <= given <= 1:
            raise ValueError(f"noise must be from 0 to 1, got {noise!r}.")
        if n_classes < 2:
            raise ValueError(f"Wrong labels need at least two classes; y has {n_classes}.")
        wrong = given / (n_classes - 1)
        return np.where(np.eye(n_classes, dtype=bool), 1 - given, wrong)
    if given.shape != (n_classes, n_classes):
        raise ValueError(f"noise has shape {given.shape}; y has {n_classes} classes.")
    if (given < 0).any() or not np.allclose(given.sum(axis=1), 1):
        raise ValueError(f"Each row of noise must be probabilities that sum to 1, got {given.tolist()}.")
    return given

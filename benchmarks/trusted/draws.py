"""Draws whose validation and test rows are of one kind and whose training rows are of another."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skreweight.datasets import fetch_benchmark, load_sst
from skreweight.datasets.imbalance import flip_labels

TEXT = "SST-2"
#: Rare and common training rows that a draw keeps at most: all sets are of one size, and affordable.
TRAINING_ROWS = {1: 100, 0: 1500}
TEST_SHARE = 0.4
#: Of the rare rows that are not test rows, the share that may be validation rows.
MOST_VALIDATION = 0.55
SIZES = (5, 10, 50, 200)


class Draw(NamedTuple):
    """Rows of a draw; labels are 0 and 1, 1 the rare class.

    Attributes
    ----------
    X, y : training rows with the labels they are given
    truth : their true labels
    X_val, y_val : validation rows, the same number of each class, labels true
    X_test, y_test : labels true
    groups : of the test rows, 0 to 3, or None
    """

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    truth: NDArray[np.int64]
    X_val: NDArray[np.float32]
    y_val: NDArray[np.int64]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None


class Parts(NamedTuple):
    """Row numbers: test rows, and of each class the others in random order, validation rows first."""

    test: NDArray[np.int64]
    rare: NDArray[np.int64]
    common: NDArray[np.int64]


@lru_cache(maxsize=4)
def rows_of(name: str, data_home: str | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the rows of a set and their labels, 1 the rare class."""
    if name == TEXT:
        sst: Any = load_sst(2, data_home)
        return np.asarray(sst.data, dtype=np.float64), (sst.target == 0).astype(np.int64)
    data = fetch_benchmark([name], data_home, download_if_missing=False)[name]
    return np.asarray(data.data, dtype=np.float64), (data.target == 1).astype(np.int64)


def parts_of(y: NDArray[np.int64], seed: int) -> Parts:
    """Deal the rows out: a stratified test share, and the others by class."""
    rng = np.random.default_rng(seed)
    rest, test = train_test_split(np.arange(len(y)), test_size=TEST_SHARE, stratify=y, random_state=seed)
    rare, common = (rng.permutation(rest[y[rest] == label]) for label in (1, 0))
    return Parts(np.sort(test), rare, common)


def sizes_for(n_rare: int) -> list[int]:
    """Return the numbers of validation rows a class that leave enough rare rows to train on."""
    return [n for n in SIZES if n <= MOST_VALIDATION * n_rare]


def split(parts: Parts, n_validation: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return training and validation rows.

    The training rows do not depend on the number of validation rows, and fewer validation rows are among
    the more: all sizes are paired.
    """
    most = max(sizes_for(len(parts.rare)))
    if n_validation > most:
        raise ValueError(
            f"{n_validation} validation rows a class leave too few rare rows to train on: at most {most} here."
        )
    train = np.concatenate(
        [rows[most:][: TRAINING_ROWS[label]] for label, rows in ((1, parts.rare), (0, parts.common))]
    )
    return np.sort(train), np.concatenate([parts.rare[:n_validation], parts.common[:n_validation]])


def noise(name: str, condition: str, n_validation: int, seed: int, data_home: str | None) -> Draw:
    """Labels of training rows are wrong, those of validation and test rows are not.

    Conditions: "clean"; "missed 30 %", rare rows labelled common; "false 30 %", as many common rows labelled rare as
    are 30 % of the rare rows; "symmetric 30 %", each label wrong with that probability.
    """
    X, y = rows_of(name, data_home)
    parts = parts_of(y, seed)
    train, validation = split(parts, n_validation)
    given = noisy(y[train], condition, seed)
    return _scaled(X, train, given, y, validation, parts.test)


def noisy(y: NDArray[np.int64], condition: str, seed: int) -> NDArray[np.int64]:
    """Return labels as a condition of `noise` makes them."""
    if condition == "clean":
        return y.copy()
    kind, share = _kind_and_share(condition)
    keep = np.eye(2)
    if kind in ("missed", "symmetric"):
        keep[1] = share, 1 - share
    if kind == "false":
        share *= y.mean() / (1 - y.mean())
    if kind in ("false", "symmetric"):
        keep[0] = 1 - share, share
    return np.asarray(flip_labels(y, keep, random_state=seed))


def shift(name: str, condition: str, n_validation: int, seed: int, data_home: str | None) -> Draw:
    """Validation and test rows come from another site: the stand-in is the first principal component.

    Rows are drawn into the training side with a probability that falls along the component, by the logistic
    function of "strength" times its standardised value; the others are validation and test rows. Strength 0 is
    no shift. Within a class only the rows differ, not the labels.
    """
    X, y = rows_of(name, data_home)
    rng = np.random.default_rng(seed)
    strength = float(condition.split()[-1])
    at_home = rng.random(len(y)) < 1 / (1 + np.exp(strength * _first_component(X)))
    train = np.concatenate(
        [
            rng.permutation(np.flatnonzero(at_home & (y == label)))[:most]
            for label, most in TRAINING_ROWS.items()
        ]
    )
    away = {label: rng.permutation(np.flatnonzero(~at_home & (y == label))) for label in (0, 1)}
    most = max(sizes_for(len(away[1])))
    if n_validation > most:
        raise ValueError(
            f"{n_validation} validation rows a class leave too few rare rows to test on: at most {most} here."
        )
    validation = np.concatenate([away[1][:n_validation], away[0][:n_validation]])
    test = np.concatenate([away[1][most:], away[0][most:]])
    return _scaled(X, np.sort(train), y[np.sort(train)], y, validation, np.sort(test))


def groups(name: str, condition: str, n_validation: int, seed: int, data_home: str | None) -> Draw:
    """Class and an attribute go together in the training rows; validation rows are balanced by both.

    The attribute is whether the first principal component is above its median. "aligned 90 %": rare rows that have
    it and common rows that lack it are 90 % of the training rows of their class, the others were left out
    at random. Test rows are as they come; their four groups are class and attribute.
    """
    X, y = rows_of(name, data_home)
    parts = parts_of(y, seed)
    component = _first_component(X)
    attribute = (component > np.median(component)).astype(np.int64)
    train, validation = aligned(parts, attribute, _kind_and_share(condition)[1], n_validation)
    draw = _scaled(X, train, y[train], y, validation, parts.test)
    return draw._replace(groups=2 * y[parts.test] + attribute[parts.test])


def aligned(
    parts: Parts, attribute: NDArray[np.int64], share: float, n_validation: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return training rows of which a share has the attribute of its class, and validation rows half of either."""
    train: list[NDArray[np.int64]] = []
    validation: list[NDArray[np.int64]] = []
    most = max(sizes_for(len(parts.rare)))
    for label, rows in ((1, parts.rare), (0, parts.common)):
        sides = [rows[attribute[rows] == label], rows[attribute[rows] != label]]
        taken = [n_validation - n_validation // 2, n_validation // 2]
        reserved = [min(len(side) // 2, most - most // 2) for side in sides]
        if any(t > r for t, r in zip(taken, reserved, strict=True)):
            raise ValueError(
                f"{n_validation} validation rows a class leave too few of one group: at most {2 * min(reserved)} here."
            )
        validation += [side[:n] for side, n in zip(sides, taken, strict=True)]
        agree, differ = (side[n:] for side, n in zip(sides, reserved, strict=True))
        n_agree = min(len(agree), int(len(differ) * share / (1 - share)), round(TRAINING_ROWS[label] * share))
        n_differ = min(len(differ), round(n_agree * (1 - share) / share))
        train += [agree[:n_agree], differ[: max(1, n_differ)]]
    return np.sort(np.concatenate(train)), np.concatenate(validation)


def _first_component(X: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = StandardScaler().fit_transform(X).clip(-5, 5)
    component = PCA(1, random_state=0).fit_transform(scaled)[:, 0]
    return np.asarray(component / component.std())


def _kind_and_share(condition: str) -> tuple[str, float]:
    kind, share, _ = condition.split()
    return kind, float(share) / 100


def _scaled(
    X: NDArray[np.float64],
    train: NDArray[np.int64],
    given: NDArray[np.int64],
    y: NDArray[np.int64],
    validation: NDArray[np.int64],
    test: NDArray[np.int64],
) -> Draw:
    scaler = StandardScaler().fit(X[train])
    X_train, X_val, X_test = (
        scaler.transform(X[rows]).clip(-10, 10).astype(np.float32) for rows in (train, validation, test)
    )
    return Draw(X_train, given, y[train], X_val, y[validation], X_test, y[test])

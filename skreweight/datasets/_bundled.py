"""Imbalanced data without a file and without a network: from what scikit-learn brings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch, check_random_state

from ._bunch import pack
from ._checks import check_choice
from .imbalance import subsample

# Loader, which of its classes is "pos", and how many rows of it are kept by default.
SETS: dict[str, tuple[Any, int, int]] = {
    "digits": (load_digits, 8, 60),
    "breast_cancer": (load_breast_cancer, 0, 30),
}

DESCR = """\
{name}, made imbalanced
{line}

{what}

Every row is one of scikit-learn's, unchanged; rows of "pos" were left out at random until {n_rare} were left.
{n_common} rows are "neg".
"""
WHAT = {
    "digits": 'Handwritten digits of 8 x 8 pixels: "pos" is the digit 8, "neg" are the nine others.',
    "breast_cancer": 'Measurements of cell nuclei: "pos" is malignant, "neg" is benign.',
}


def load_bundled(
    name: str = "digits",
    *,
    n_rare: int | None = None,
    subset: str = "all",
    as_frame: bool = True,
    return_X_y: bool = False,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch | tuple[Any, Any]:
    """Load data that scikit-learn brings along, with one class made rare.

    Real rows only: most rows of the rare class are left out, nothing is added or changed, and no value is
    missing. It needs neither a file nor a network, and has the form of :func:`fetch_aps_failure`.

    Parameters
    ----------
    name : {"digits", "breast_cancer"}, default="digits"
        "digits": the digit 8 ("pos") among the nine others ("neg", 1,623 rows), 64 attributes.
        "breast_cancer": malignant ("pos") among benign ("neg", 357 rows), 30 attributes.
    n_rare : int, default=None
        Rows of "pos" to keep; None: 60 of 174 for the digits, 30 of 212 for breast cancer.
    subset : {"train", "test", "all"}, default="all"
        "test" is a third of the rows, "train" the others, both with the same share of "pos".
    as_frame : bool, default=True
        Return pandas objects, otherwise NumPy arrays.
    return_X_y : bool, default=False
        Return `(data, target)` instead of the Bunch.
    random_state : int, RandomState instance or None, default=0
        Which rows are left out, and which are in the test part. Train and test are disjoint when they are
        loaded with the same int.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        data : DataFrame or ndarray of shape (n_rows, n_attributes), float32
            The attributes.
        target : Series or ndarray of shape (n_rows,)
            The strings "neg" and "pos".
        frame : DataFrame of shape (n_rows, n_attributes + 1) or None
            `data` and `target` in one, where `as_frame` is True.
        feature_names : list of str
            The columns of `data`.
        target_names : list of str
            ``["neg", "pos"]``
        source : list of str
            scikit-learn's loader.
        DESCR : str
            What the data are.
    (data, target) : tuple
        If `return_X_y` is True.

    Raises
    ------
    ValueError
        If `n_rare` is more than there are.

    Examples
    --------
    >>> from skreweight.datasets import load_bundled
    >>> load_bundled(subset="train").target.value_counts().to_dict()
    {'neg': 1082, 'pos': 40}
    """
    check_choice("name", name, tuple(SETS))
    check_choice("subset", subset, ("train", "test", "all"))
    load, rare, default = SETS[name]
    rng = check_random_state(random_state)
    bunch = load()
    y = np.where(bunch.target == rare, "pos", "neg")
    n_common, n_rare = int((y == "neg").sum()), default if n_rare is None else n_rare
    rows = subsample(y, {"neg": n_common, "pos": n_rare}, random_state=rng)
    if subset != "all":
        halves = train_test_split(rows, test_size=1 / 3, stratify=y[rows], random_state=rng)
        rows = np.sort(halves[("train", "test").index(subset)])

    features = [str(feature) for feature in bunch.feature_names]
    return pack(
        pd.DataFrame(bunch.data[rows].astype(np.float32), columns=features),
        pd.Series(y[rows]),
        feature_names=features,
        target_name="class",
        as_frame=as_frame,
        return_X_y=return_X_y,
        target_names=["neg", "pos"],
        source=[f"sklearn.datasets.{load.__name__}"],
        DESCR=DESCR.format(
            name=name, line="=" * (len(name) + 17), what=WHAT[name], n_rare=n_rare, n_common=n_common
        ),
    )

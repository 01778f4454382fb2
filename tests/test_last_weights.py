"""Example weights of the methods that store none: what a row weighed when stage 2 last came to it."""

import numpy as np

from skreweight import ReweightedClassifier


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

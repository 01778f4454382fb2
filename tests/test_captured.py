"""Capture and replay of a training step, with a stand-in for the CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from sklearn.datasets import make_classification

from skreweight import ReweightedClassifier
from skreweight._captured import N_EAGER_STEPS, CapturedStep
from skreweight.batches import Batch


class FakeGraph:
    """Remembers what was called while it was captured and calls it again, on the same static batch."""

    def __init__(self) -> None:
        self.n_replays = 0

    def replay(self) -> None:
        self.n_replays += 1


class Capture:
    def __init__(self, fails: bool = False) -> None:
        self.graphs: list[FakeGraph] = []
        self.taken: list[Batch] = []
        self.replays = 0
        self.rates = (0.1,)
        self.fails = fails
        self.is_capturing = False
        self.step = CapturedStep(
            self.take, lambda: self.rates, self.count, new_graph=self.new_graph, capturing=self.capturing
        )

    def take(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if self.is_capturing and self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.taken.append(batch)
        return batch.x.sum(), batch.x[:, 0], batch.x

    def count(self) -> None:
        self.replays += 1

    def new_graph(self) -> FakeGraph:
        self.graphs.append(FakeGraph())
        return self.graphs[-1]

    @contextmanager
    def capturing(self, graph: FakeGraph) -> Iterator[None]:
        self.is_capturing = True
        try:
            yield
        finally:
            self.is_capturing = False


def batch_of(n_rows: int, value: float) -> Batch:
    return Batch(torch.arange(n_rows), torch.full((n_rows, 2), value), torch.zeros(n_rows, dtype=torch.int64))


def test_takes_the_first_steps_as_usual_and_replays_the_others_on_new_rows() -> None:
    capture = Capture()
    for value in range(N_EAGER_STEPS + 4):
        _, _, rows = capture.step(batch_of(4, float(value)))
        assert torch.equal(rows, batch_of(4, float(value)).x)
    assert len(capture.taken) == N_EAGER_STEPS + 1
    assert [graph.n_replays for graph in capture.graphs] == [4]
    # the capture counts one step on the host, each further replay is told
    assert capture.replays == 3


def test_takes_a_short_batch_as_usual() -> None:
    capture = Capture()
    for _ in range(N_EAGER_STEPS + 1):
        capture.step(batch_of(4, 1.0))
    short = batch_of(3, 2.0)
    capture.step(short)
    assert capture.taken[-1] is short


def test_captures_anew_when_the_learning_rate_changes() -> None:
    capture = Capture()
    for _ in range(N_EAGER_STEPS + 2):
        capture.step(batch_of(4, 1.0))
    capture.rates = (0.05,)
    capture.step(batch_of(4, 1.0))
    assert [graph.n_replays for graph in capture.graphs] == [2, 1]


def test_goes_on_as_usual_where_a_step_cannot_be_captured() -> None:
    capture = Capture(fails=True)
    for _ in range(N_EAGER_STEPS + 3):
        capture.step(batch_of(4, 1.0))
    assert len(capture.taken) == N_EAGER_STEPS + 3
    assert len(capture.graphs) == 1
    assert "not permitted" in str(capture.step.failure)


@pytest.mark.parametrize("weighting", ["none", "absgd", "hu", "ours"])
def test_changes_nothing_on_the_cpu(weighting: str) -> None:
    X, y = make_classification(120, 5, weights=[0.8], random_state=0)
    options = {
        "weighting": weighting,
        "module__hidden": (4,),
        "warmup_epochs": 1,
        "max_epochs": 1,
        "device": "cpu",
    }
    plain = ReweightedClassifier(random_state=0, **options).fit(X, y)
    asked = ReweightedClassifier(random_state=0, cuda_graph=True, **options).fit(X, y)
    assert (plain.predict_proba(X) == asked.predict_proba(X)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("weighting", ["none", "proportion", "two-phase", "ren", "hu", "ours", "absgd"])
def test_trains_the_same_on_a_gpu(weighting: str) -> None:
    X, y = make_classification(600, 5, weights=[0.8], random_state=0)
    options = {
        "weighting": weighting,
        "module__hidden": (4,),
        "warmup_epochs": 2,
        "max_epochs": 2,
        "batch_size": 32,
    }
    plain = ReweightedClassifier(random_state=0, **options).fit(X, y)
    graphed = ReweightedClassifier(random_state=0, cuda_graph=True, **options).fit(X, y)
    assert abs(plain.predict_proba(X) - graphed.predict_proba(X)).max() < 1e-3

"""A training step captured in a CUDA graph: one launch for all of its kernels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from skreweight.batches import Batch

StepResult = tuple[Tensor, Tensor, Tensor]

#: Steps taken as usual before the capture: libraries and caches set themselves up in them.
N_EAGER_STEPS = 3


class Graph(Protocol):
    """What is used of `torch.cuda.CUDAGraph`."""

    def replay(self) -> None:
        """Run the captured kernels again."""
        ...


class CapturedStep:
    """Takes steps as usual a few times, captures one, and from then on replays it on new rows.

    Static shapes are what a graph needs: batches of another size than the first (the last short one) are taken as
    usual. A step that cannot be captured (it reads a value on the host, or an operation does not allow it) goes
    on as usual for good. A changed learning rate is captured anew, since numbers are baked in.

    Parameters
    ----------
    take : callable (Batch) -> (loss, weights, outputs)
        The step.
    learning_rates : callable () -> tuple of float
        The optimiser's present ones.
    on_replay : callable ()
        Told of each replay, for what a step counts on the host.
    new_graph : callable () -> Graph, default=torch.cuda.CUDAGraph
    capturing : callable (Graph) -> context manager, default=torch.cuda.graph
    """

    def __init__(
        self,
        take: Callable[[Batch], StepResult],
        learning_rates: Callable[[], tuple[float, ...]],
        on_replay: Callable[[], None],
        *,
        new_graph: Callable[[], Graph] = torch.cuda.CUDAGraph,
        capturing: Callable[[Any], AbstractContextManager[Any]] = torch.cuda.graph,
    ) -> None:
        self._take, self._learning_rates, self._on_replay = take, learning_rates, on_replay
        self._new_graph, self._capturing = new_graph, capturing
        self._n_eager = 0
        self._graph: Graph | None = None
        self._static: Batch | None = None
        self._result: StepResult | None = None
        self._captured_rates: tuple[float, ...] = ()
        self.failure: str | None = None

    def __call__(self, batch: Batch) -> StepResult:
        """Take one step on the batch."""
        fits = self._static is None or batch.rows.shape == self._static.rows.shape
        if self.failure is not None or not fits or not isinstance(batch.x, Tensor):
            return self._take(batch)
        if self._n_eager < N_EAGER_STEPS:
            self._n_eager += 1
            self._static = Batch(batch.rows.clone(), batch.x.clone(), batch.targets.clone())
            return self._take(batch)
        is_new = self._graph is None or self._captured_rates != self._learning_rates()
        if is_new:
            self._capture()
        if self._graph is None or self._result is None or self._static is None:
            return self._take(batch)
        for static, new in zip(self._static, batch, strict=True):
            static.copy_(new)
        self._graph.replay()
        if not is_new:  # the capture itself counted what the host counts, without running anything
            self._on_replay()
        loss, weights, outputs = self._result
        return loss, weights.clone(), outputs  # the weights are kept; the next replay writes over them

    def _capture(self) -> None:
        assert self._static is not None
        graph = self._new_graph()
        try:
            with self._capturing(graph):
                self._result = self._take(self._static)
        except RuntimeError as error:
            self._graph, self.failure = None, str(error)
            return
        self._graph, self._captured_rates = graph, self._learning_rates()

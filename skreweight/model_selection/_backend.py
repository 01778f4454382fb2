"""The seam to scikit-learn: a joblib backend that is handed all fits of a search at once.

scikit-learn's searches hand every fit to joblib, one call of ``_fit_and_score`` for each candidate and fold, and read
the results in the same order. A backend of our own collects the calls, and whoever it belongs to answers them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from joblib import parallel_config
from joblib.parallel import ParallelBackendBase

#: A call as joblib keeps it: function, positional arguments, keywords.
Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class CollectingBackend(ParallelBackendBase):
    """Collects calls until the first result is asked for.

    Parameters
    ----------
    answer : callable (sequence of Call) -> list of results
        In the order of the calls.
    """

    supports_timeout = False
    supports_sharedmem = True
    uses_threads = True

    def __init__(self, answer: Callable[[Sequence[Call]], list[Any]]) -> None:
        super().__init__(nesting_level=0)
        self._answer = answer
        self._calls: list[Call] = []
        self._results: list[Any] = []
        self._to_tell: list[Callable[[Any], object]] = []
        self._lent = parallel_config(backend=self)

    def give_back(self) -> None:
        """Let joblib be configured as it was before."""
        if self._lent is not None:
            self._lent.unregister()
            self._lent = None

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Return more than one: joblib runs calls itself where there is one."""
        return 2

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Be taken by the first that uses joblib, and by no other: what is nested in it is the user's again."""
        self.give_back()
        self.parallel = parallel
        parallel.pre_dispatch = "all"
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Any = None) -> range:
        """Keep the calls of a batch; return their numbers."""
        first = len(self._calls)
        self._calls += func.items
        self._to_tell.append(callback)
        return range(first, len(self._calls))

    apply_async = submit

    def retrieve_result(self, out: range, timeout: float | None = None) -> list[Any]:
        """Return the results of a batch; the first that is asked for has all calls answered."""
        if len(self._results) < len(self._calls):
            self._results += self._answer(self._calls[len(self._results) :])
            for callback in self._to_tell:
                callback(None)  # joblib counts what is completed
            self._to_tell = []
        return [self._results[number] for number in out]

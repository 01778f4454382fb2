"""Jobs spread over the processes of joblib's backend: loky's, Dask's or Ray's, where the user says so."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed


def spread(
    function: Callable[..., Any],
    common: Sequence[Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    n_jobs: int | None,
    pre_dispatch: Any = "2*n_jobs",
) -> Iterator[Any]:
    """Yield what the function returns for each tuple of arguments, in their order.

    Parameters
    ----------
    function : callable (*common, *job)
    common : sequence
        Arguments that all jobs have in common, such as rows. They are sent once: loky maps arrays into the memory of
        its processes, Ray stores what is passed twice, and to Dask they are a task's result, which is copied to as many
        workers as there are jobs, and made anew where the workers that had it are gone.
    jobs : sequence of tuple
        Further arguments.
    n_jobs : int or None
    pre_dispatch : int or str, default="2*n_jobs"
    """
    backend, _ = get_active_backend(prefer="processes")
    client = getattr(backend, "client", None)
    rows = tuple(common) if client is None else _kept(client, tuple(common), len(jobs))
    # A pool such as Ray's hands back all at once.
    in_order = backend.supports_return_generator or effective_n_jobs(n_jobs) == 1
    parallel = Parallel(
        n_jobs=n_jobs,
        prefer="processes",
        pre_dispatch=pre_dispatch,
        return_as="generator" if in_order else "list",
        mmap_mode="c",  # copies on write: torch warns of arrays that cannot be written to
    )
    yield from parallel(delayed(_call)(function, rows, job) for job in jobs)


def _call(function: Callable[..., Any], common: tuple[Any, ...], job: tuple[Any, ...]) -> Any:
    return function(*common, *job)


def _kept(client: Any, value: Any, n_jobs: int) -> Any:
    """Return what stands for a value among the arguments of Dask's tasks.

    ``client.scatter`` would leave it with workers alone, and joblib does that for large arguments: they are gone with
    the last worker that has them, and the fit ends with an error. The scheduler keeps what a task is made of.

    Dask gives a task to workers that have what it needs, and takes it from them again only where it believes that
    running it takes longer than sending that: of tasks that it has not seen before it believes half a second. So a
    large value that one worker has would keep all jobs there, one after the other: as many have it as there are jobs.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)  # that is what is wanted here
        kept = client.submit(partial(_same, value), pure=False)
    if not _in_a_task():  # there it would wait for what may wait for this task's place
        # A worker that dies meanwhile is an error of copying, not of the fit: jobs find what copies there are.
        with suppress(Exception):
            client.replicate(kept, n=n_jobs)
    return kept


def _in_a_task() -> bool:
    """Whether this thread runs one of Dask's tasks."""
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def _same(value: Any) -> Any:
    return value

"""Members spread over processes, those of joblib's backend: loky's, or Dask's where the user says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed

from skreweight._ensemble.progress import MembersProgress


def check_n_jobs(n_jobs: int | None, checkpoint: Any) -> None:
    """Refuse 0 processes, and a checkpoint that several would have to write.

    Raises
    ------
    ValueError
    """
    if n_jobs == 0:
        raise ValueError(
            "n_jobs is a number of processes, or negative to count from the cores, got n_jobs=0."
        )
    if checkpoint is not None and effective_n_jobs(n_jobs) > 1:
        raise ValueError(
            "checkpoint is written by one process, and members are spread over several, got "
            f"n_jobs={n_jobs!r}, which is {effective_n_jobs(n_jobs)} here: set n_jobs=1, or no checkpoint."
        )


def cut(n_members: int, n_jobs: int | None) -> list[slice]:
    """Return which members each process trains: a pack, which takes two at least."""
    n_parts = max(1, min(effective_n_jobs(n_jobs), n_members // 2))
    ends = [n_members * part // n_parts for part in range(n_parts + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def spread(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    n_jobs: int | None,
    what: str,
    progress: MembersProgress,
) -> Iterator[Any]:
    """Yield what the function returns for each tuple of arguments, in their order.

    Rows are arguments of their own: the same array in several jobs is sent to each process once.

    Parameters
    ----------
    function : callable
    jobs : sequence of tuple
    n_jobs : int or None
    what : str
        What is trained, for the progress bar, which moves by jobs.
    progress : MembersProgress
    """
    progress.show(len(jobs), f"{what}, in parts", "part")
    # Copies on write: torch warns of arrays that cannot be written to.
    parallel = Parallel(n_jobs=n_jobs, prefer="processes", return_as="generator", mmap_mode="c")
    for answer in parallel(delayed(function)(*job) for job in jobs):
        progress.advance()
        yield answer

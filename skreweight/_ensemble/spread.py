"""Members spread over processes, those of joblib's backend: loky's, or Dask's where the user says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from joblib import effective_n_jobs

from skreweight._ensemble.progress import MembersProgress
from skreweight._pack.spread import spread as over_processes


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


def cut(n_members: int, n_jobs: int | None, most: int | None) -> list[slice]:
    """Return which members are trained at once: a pack for each process, of two at least, or packs of at most so many.

    Packs of another size round in other ways: only the latter are the same for any number of processes.
    """
    per_process = max(1, min(effective_n_jobs(n_jobs), n_members // 2))
    n_parts = per_process if most is None else -(-n_members // most)
    ends = [n_members * part // n_parts for part in range(n_parts + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def spread(
    function: Callable[..., Any],
    common: Sequence[Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    n_jobs: int | None,
    what: str,
    progress: MembersProgress,
) -> Iterator[Any]:
    """Yield what the function returns for each tuple of arguments, in their order.

    Parameters
    ----------
    function : callable (*common, *job)
    common : sequence
        Arguments that all jobs have in common.
    jobs : sequence of tuple
    n_jobs : int or None
    what : str
        What is trained, for the progress bar, which moves by jobs.
    progress : MembersProgress
    """
    progress.show(len(jobs), f"{what}, in parts", "part")
    for answer in over_processes(function, common, jobs, n_jobs=n_jobs):
        progress.advance()
        yield answer

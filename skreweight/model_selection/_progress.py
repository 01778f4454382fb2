"""How far a search has come, and how long it will take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from skreweight._pack.bar import new_bar


class Progress:
    """A bar of all epochs of all fits, with the time that is left; says how far Ctrl-C let it come.

    Parameters
    ----------
    n_epochs : sequence of int
        By fit.
    shown : bool
    """

    def __init__(self, n_epochs: Sequence[int], *, shown: bool) -> None:
        self._n_epochs = n_epochs
        self._n_finished = self._n_told = 0
        self._bar = new_bar(sum(n_epochs), f"{len(n_epochs)} fits") if shown else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if self._bar is not None:
            self._bar.close()
        if kind is KeyboardInterrupt:
            share = self._n_behind / max(1, sum(self._n_epochs))
            raise KeyboardInterrupt(
                f"The search was stopped with {share:.0%} of its epochs behind; none of it is kept, and the search is "
                "as it was before fit."
            ) from error

    @property
    def _n_behind(self) -> int:
        return min(self._n_finished + self._n_told, sum(self._n_epochs))

    def advance(self, n_epochs: int) -> None:
        """Some more epochs of fits that are not finished are behind."""
        self._n_told += n_epochs
        self._show()

    def finish(self, numbers: Sequence[int]) -> None:
        """Fits are done, all those whose epochs were told of since among them."""
        self._n_finished += sum(self._n_epochs[number] for number in numbers)
        self._n_told = 0
        self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._n_behind - self._bar.n)

"""Who hears of the members' training: their histories, a progress bar, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from skreweight._classifier import ReweightedClassifier
from skreweight._pack.bar import new_bar
from skreweight._pack.listener import MembersListener


class MembersProgress(MembersListener):
    """Tells each member what concerns it and moves a progress bar; Ctrl-C ends training without an error.

    Parameters
    ----------
    verbose : int
        Above 0 shows the bar, where tqdm is installed.

    Attributes
    ----------
    was_interrupted : bool
    """

    def __init__(self, verbose: int) -> None:
        super().__init__([], _no_fresh_optimizer, self.advance)
        self._verbose = verbose
        self._bar: Any = None
        self.was_interrupted = False

    def watch(self, nets: Sequence[ReweightedClassifier], n_epochs: int) -> None:
        """Listen on behalf of these members from now on."""
        self._nets = [[net] for net in nets]
        self.show(n_epochs, f"{len(nets)} networks")

    def show(self, n_units: int | None, what: str, unit: str = "epoch") -> None:
        """Begin a bar of so many epochs or other units, whose number may not be known."""
        self.close()
        if self._verbose > 0:
            self._bar = new_bar(n_units, what, unit)

    def say(self, what: str) -> None:
        """Print a line, if there is one to print and the user wants to hear of it."""
        if what and self._verbose > 0:
            print(what)

    def advance(self, n_networks: int = 1) -> None:
        """An epoch is behind, of however many networks at once."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def interrupted(self) -> None:
        """Take note of Ctrl-C: what is trained is kept."""
        self.was_interrupted = True


def _no_fresh_optimizer() -> None:
    raise AssertionError("The members' training has one stage.")

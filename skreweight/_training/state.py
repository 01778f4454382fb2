"""How far training has come: all that a checkpoint needs besides parameters and optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from skreweight._training.keep_best import BestParameters, write
from skreweight.core.model import Model
from skreweight.core.random_state import Stream, drawing
from skreweight.weighting import Weighting


class TrainingState:
    """Epochs done, the random state, the best parameters so far, and the state of the weighting.

    Parameters
    ----------
    seed : int
    weighting : Weighting or None, default=None
        The object in stage 2, whose ``state_`` is saved and loaded with the rest.
    members : sequence of K int, default=()
        Seeds of K networks trained at once: each draws the orders of its rows from a generator of its own.
        Empty for one network, which draws all from one stream.

    Attributes
    ----------
    seed : int
        Drawn once per fit; decides which rows are carved for validation.
    epochs_done : int
        Epochs of all stages that were finished.
    best : BestParameters
    last : dict of str to torch.Tensor
        What training goes on with, where the best parameters took its place in the module; else empty.
    random_state : dict of str to torch.Tensor
        States of the stream's generators, by device, from which training goes on.
    members_random_state : list of K torch.Tensor
        States of the members' generators; empty before training begins.
    schedules : dict of str to dict
        Loaded states of learning-rate schedules, until training begins.
    row_weights : torch.Tensor of shape (*M, N), float64, or None
        What each row of X weighed in the last epoch, while training is under way, of a method that does not store it.
    stopped : bool
        Whether a callback ended the last stage before its last epoch.
    ended : bool
        Whether what follows the last epoch is done, too: the best parameters taken, corrections fitted.
    frozen : set of str
        Parameters whose ``requires_grad`` the present stage has taken away, and gives back. No file holds them: a
        module that is made for it has none.
    """

    def __init__(self, seed: int, weighting: Weighting | None = None, members: Sequence[int] = ()) -> None:
        self.seed = seed
        self.weighting = weighting
        self.members = tuple(members)
        self.epochs_done = 0
        self.best = BestParameters()
        self.last: dict[str, Tensor] = {}
        self.random_state: dict[str, Tensor] = {}
        self.members_random_state: list[Tensor] = []
        self.schedules: dict[str, dict[str, Any]] = {}
        self.row_weights: Tensor | None = None
        self.stopped = False
        self.ended = True
        self.frozen: set[str] = set()
        self._drawing_on: tuple[Stream, list[torch.Generator]] | None = None

    def start_over(self) -> None:
        """Begin at the first epoch again, for a new module; the random state goes on."""
        self.epochs_done = 0
        self.best, self.last, self.schedules = BestParameters(), {}, {}
        self.row_weights, self.stopped = None, False
        self.frozen = set()

    def epochs_to_go(self, n_all: int, n_more: int) -> int:
        """Return how many epochs are left of `n_all`, or `n_more` if none is, unless the end of training is left.

        With `n_more` a new search for the best parameters begins: the validation rows may be others.
        """
        left = n_all - self.epochs_done
        if left > 0:
            return left
        if left == 0 and not self.ended:
            return 0
        self.best, self.last = BestParameters(), {}
        return n_more

    def go_on(self, model: Model) -> None:
        """Put the parameters that training stopped at into the model, unless it was given others since."""
        if self.last:
            if self.best.held_by(model):
                write(self.last, model)
            else:
                self.best = BestParameters()
        self.last = {}

    def settle(self, model: Model) -> None:
        """Put the best parameters into the model, if there are any, and remember its own."""
        if self.best.tensors:
            self.last = {name: t.clone() for name, t in model.state().items()}
            write(self.best.tensors, model)

    @contextmanager
    def generators(self, device: torch.device) -> Iterator[list[torch.Generator] | None]:
        """Context in which this thread draws from this state's own generators (`skreweight.core.random_state.Stream`).

        Inside of itself it does nothing. Yields the members' generators, or None for one network.
        """
        if self._drawing_on is not None:
            yield self._drawing_on[1] or None
            return
        own = [torch.Generator(device).manual_seed(seed) for seed in self.members]
        for generator, state in zip(own, self.members_random_state, strict=False):
            generator.set_state(state)
        stream = Stream(device, self.random_state, self.seed)
        with stream.present():
            self._drawing_on = stream, own
            try:
                yield own or None
            finally:
                self._keep_generators()
                self._drawing_on = None

    @contextmanager
    def drawing(self, device: torch.device) -> Iterator[None]:
        """Context in which torch's global generators are this state's, and afterwards as they were."""
        with self.generators(device), drawing():
            yield

    def _keep_generators(self) -> None:
        if self._drawing_on is not None:
            stream, own = self._drawing_on
            self.random_state = stream.states()
            self.members_random_state = [generator.get_state() for generator in own]

    def state_dict(self, schedules: Mapping[str, dict[str, Any]] | None = None) -> dict[str, Any]:
        """Return what a checkpoint stores, in the middle of training as well: plain values and tensors only.

        Parameters
        ----------
        schedules : mapping of str to dict or None, default=None
            States of the learning-rate schedules that run at present.
        """
        self._keep_generators()
        started = self.weighting is not None and hasattr(self.weighting, "state_")
        return {
            "method": type(self.weighting).__name__,
            "weighting": self.weighting.state_dict() if started and self.weighting is not None else None,
            "schedules": {**(schedules or {}), **self.schedules},
            "progress": {
                "seed": self.seed,
                "members": list(self.members),
                "epochs_done": self.epochs_done,
                "random_state": dict(self.random_state),
                "members_random_state": list(self.members_random_state),
                "best": self.best.state_dict(),
                "last": dict(self.last),
                "row_weights": self.row_weights,
                "stopped": self.stopped,
                "ended": self.ended,
            },
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device | str = "cpu") -> Tensor | None:
        """Take over what a checkpoint stored; return the weights that the weighting stores, if it does.

        Parameters
        ----------
        state : mapping
        device : torch.device or str, default="cpu"
            Where the weighting's state goes.

        Raises
        ------
        ValueError
            Where it is that of another method.
        """
        method = type(self.weighting).__name__
        if state["method"] != method:
            raise ValueError(
                f"The file holds the state of weighting {state['method']}, the estimator has {method}: "
                "set weighting to the one that was saved."
            )
        if self.weighting is not None and state["weighting"] is not None:
            self.weighting.load_state_dict({k: v.to(device) for k, v in state["weighting"].items()})
        self.schedules = dict(state["schedules"])
        progress = state["progress"]
        self.seed, self.epochs_done = progress["seed"], progress["epochs_done"]
        self.members = tuple(progress.get("members", ()))  # files of version 0.1.0 know none
        # Generator states live on the host, wherever the checkpoint was mapped to.
        self.random_state = {name: s.cpu() for name, s in progress["random_state"].items()}
        self.members_random_state = [s.cpu() for s in progress.get("members_random_state", ())]
        self.best = BestParameters()
        self.best.load_state_dict(progress["best"])
        self.last = dict(progress["last"])
        weights = progress.get("row_weights")
        self.row_weights = None if weights is None else weights.to(device)
        self.stopped, self.ended = progress.get("stopped", False), progress.get("ended", True)
        return None if self.weighting is None or state["weighting"] is None else self.weighting.stored_weights

    def give_member(self, k: int, own: TrainingState) -> None:
        """Write what concerns member k into a state of its own, from which it goes on alone."""
        own.epochs_done = self.epochs_done
        own.best = self.best.of_member(k)
        own.last = {name: t[k].clone() for name, t in self.last.items()}
        own.random_state = {**own.random_state, "cpu": self.members_random_state[k]}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, which may come in the middle of training."""
        self._keep_generators()
        return {**self.__dict__, "_drawing_on": None}

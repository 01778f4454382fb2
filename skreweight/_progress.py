"""How far training has come: all that a checkpoint needs besides parameters, optimiser and weighting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skreweight.core.random_state import random_state_of, set_random_state


class BestParameters:
    """The parameters with the best validation accuracy so far, ties broken by lower validation loss.

    Comparison and copy are tensor work, so that it can run after every step without a host read.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        Parameters and buffers by name; empty before the first call of `update`.
    """

    def __init__(self) -> None:
        self.accuracy: Tensor | None = None
        self.loss: Tensor | None = None
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, module: nn.Module, accuracy: Tensor, loss: Tensor) -> None:
        """Keep the module's parameters if they are better than the best so far."""
        state = module.state_dict()
        if self.accuracy is None or self.loss is None:
            self.accuracy, self.loss = accuracy.clone(), loss.clone()
            self.tensors = {name: t.detach().clone() for name, t in state.items()}
            return
        better = (accuracy > self.accuracy) | ((accuracy == self.accuracy) & (loss < self.loss))
        self.accuracy = torch.where(better, accuracy, self.accuracy)
        self.loss = torch.where(better, loss, self.loss)
        for name, kept in self.tensors.items():
            kept.copy_(torch.where(better, state[name], kept))

    def restore(self, module: nn.Module) -> None:
        """Put the best parameters into the module."""
        module.load_state_dict(self.tensors)

    def held_by(self, module: nn.Module) -> bool:
        """Whether the module's parameters are the best ones."""
        state = module.state_dict()
        return self.tensors.keys() == state.keys() and all(
            t.shape == state[name].shape and torch.equal(t, state[name]) for name, t in self.tensors.items()
        )


class Progress:
    """Epochs done, the random state, and the best parameters so far.

    Attributes
    ----------
    seed : int
        Drawn once per fit; decides which rows are carved for validation.
    epochs_done : int
        Epochs of both stages that were finished.
    best : BestParameters
    last : dict of str to torch.Tensor
        What training goes on with, where the best parameters took its place in the module; else empty.
    random_state : dict of str to torch.Tensor
        Generator states from which training goes on.
    schedules : dict of str to dict
        Loaded states of learning-rate schedules, until training begins.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.epochs_done = 0
        self.best = BestParameters()
        self.last: dict[str, Tensor] = {}
        self.random_state: dict[str, Tensor] = {}
        self.schedules: dict[str, dict[str, Any]] = {}
        self._drawing_on: list[Tensor] | None = None

    def start_over(self) -> None:
        """Begin at the first epoch again, for a new module; the random state goes on."""
        self.epochs_done = 0
        self.best, self.last, self.schedules = BestParameters(), {}, {}

    def epochs_to_go(self, n_warmup: int, n_epochs: int) -> int:
        """Return how many epochs are left of both stages, or `n_epochs` more of stage 2 if none is.

        In the latter case a new search for the best parameters begins: the validation rows may be others.
        """
        left = n_warmup + n_epochs - self.epochs_done
        if left > 0:
            return left
        self.best, self.last = BestParameters(), {}
        return n_epochs

    def go_on(self, module: nn.Module) -> None:
        """Put the parameters that training stopped at into the module, unless it was given others since."""
        if self.last:
            if self.best.held_by(module):
                module.load_state_dict(self.last)
            else:
                self.best = BestParameters()
        self.last = {}

    def settle(self, module: nn.Module) -> None:
        """Put the best parameters into the module, if there are any, and remember its own."""
        if self.best.tensors:
            self.last = {name: t.detach().clone() for name, t in module.state_dict().items()}
            self.best.restore(module)

    @contextmanager
    def generators(self, device: torch.device) -> Iterator[None]:
        """Context that draws from this progress's generators and leaves the global ones as they were."""
        devices = [device] if device.type == "cuda" else []
        probe = [torch.empty(0, device=device)]
        with torch.random.fork_rng(devices):
            if self.random_state:
                set_random_state(self.random_state)
            else:
                torch.manual_seed(self.seed)
            self._drawing_on = probe
            try:
                yield
            finally:
                self._keep_generators()
                self._drawing_on = None

    def _keep_generators(self) -> None:
        if self._drawing_on is not None:
            self.random_state = random_state_of(self._drawing_on)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores, in the middle of training as well."""
        self._keep_generators()
        best = self.best
        return {
            "seed": self.seed,
            "epochs_done": self.epochs_done,
            "random_state": dict(self.random_state),
            "best": {"accuracy": best.accuracy, "loss": best.loss, "tensors": dict(best.tensors)},
            "last": dict(self.last),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what a checkpoint stored."""
        self.seed = state["seed"]
        self.epochs_done = state["epochs_done"]
        # Generator states live on the host, wherever the checkpoint was mapped to.
        self.random_state = {device: s.cpu() for device, s in state["random_state"].items()}
        self.best = BestParameters()
        self.best.accuracy, self.best.loss = state["best"]["accuracy"], state["best"]["loss"]
        self.best.tensors = dict(state["best"]["tensors"])
        self.last = dict(state["last"])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, which may come in the middle of training."""
        self._keep_generators()
        return {**self.__dict__, "_drawing_on": None}

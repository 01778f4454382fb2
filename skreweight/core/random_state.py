"""Random numbers of a training step, for one network or for each of K from a generator of its own."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_LOCK = threading.RLock()
if hasattr(os, "register_at_fork"):  # a child that is forked while another thread draws must not wait for it

    def _new_lock() -> None:
        global _LOCK
        _LOCK = threading.RLock()

    os.register_at_fork(after_in_child=_new_lock)


class _Present(threading.local):
    """The streams of this thread, of which the last one is drawn from."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []


_PRESENT = _Present()


class Stream:
    """Random numbers of one fit: generators of its own, which draw what torch's global ones would.

    What takes a generator draws from them by `own_generator`, in any thread at any time. What takes none (start values,
    dropout of a module of the user's, a callback) draws within `drawing`, where the stream takes the place of the
    global generators and no other thread is.

    Parameters
    ----------
    device : torch.device
        The stream has a generator for it and one for the CPU.
    states : mapping of str to torch.Tensor
        Where the generators begin, by device.
    seed : int
        Where those begin for which there is no state.
    """

    def __init__(self, device: torch.device, states: Mapping[str, Tensor], seed: int) -> None:
        here = torch.empty(0, device=device).device
        self._own = {str(d): torch.Generator(d) for d in {torch.device("cpu"), here}}
        self._is_live = False
        for name, generator in self._own.items():
            if name in states:
                generator.set_state(states[name].cpu())
            else:
                generator.manual_seed(seed)

    def states(self) -> dict[str, Tensor]:
        """Return where the generators stand, by device."""
        if self._is_live:
            return {name: _global_state(name) for name in self._own}
        return {name: generator.get_state() for name, generator in self._own.items()}

    @contextmanager
    def present(self) -> Iterator[None]:
        """Context in which this thread draws from the stream."""
        _PRESENT.streams.append(self)
        try:
            yield
        finally:
            _PRESENT.streams.pop()

    def generator(self, device: torch.device) -> torch.Generator | None:
        """Return the generator of a device; None within `drawing`, where the global one is in its place."""
        return None if self._is_live else self._own.get(str(device))

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Context in which the global generators are the stream's, for this thread alone."""
        if self._is_live:
            yield
            return
        with _LOCK:
            before = {name: _global_state(name) for name in self._own}
            set_random_state(self.states())
            self._is_live = True
            try:
                yield
            finally:
                after = self.states()
                self._is_live = False
                set_random_state(before)
                for name, generator in self._own.items():
                    generator.set_state(after[name])


def own_generator(device: torch.device) -> torch.Generator | None:
    """Return what this thread's fit draws from on a device; None: torch's global generator."""
    return _PRESENT.streams[-1].generator(device) if _PRESENT.streams else None


@contextmanager
def drawing() -> Iterator[None]:
    """Context in which torch's global generators draw what this thread's fit is to draw; nothing outside of a fit."""
    if not _PRESENT.streams:
        yield
        return
    with _PRESENT.streams[-1].drawing():
        yield


@contextmanager
def alone() -> Iterator[None]:
    """Context for what torch keeps once for all threads: levels of forward-mode differentiation."""
    with _LOCK:
        yield


def _global_state(device: str) -> Tensor:
    return torch.get_rng_state() if device == "cpu" else torch.cuda.get_rng_state(torch.device(device))


class Draws:
    """Draws for one network, or member by member.

    A CPU generator that was seeded like the global one draws the same numbers, so that member k of K draws what
    it would draw alone.

    Parameters
    ----------
    generators : sequence of torch.Generator, default=()
        One a member; empty: one network, which draws from the fit's own (`own_generator`).
    """

    def __init__(self, generators: Sequence[torch.Generator] = ()) -> None:
        self.generators = list(generators)

    def _filled(self, like: Tensor, fill: Callable[[Tensor, torch.Generator | None], object]) -> Tensor:
        out = torch.empty_like(like, memory_format=torch.contiguous_format)
        if not self.generators:
            fill(out, own_generator(out.device))
        for part, generator in zip(out, self.generators, strict=False):
            fill(part, generator)
        return out

    def kept(self, like: Tensor, probability: float) -> Tensor:
        """Return 1 where a figure is kept, which has that probability, else 0; in the order of torch's dropout."""
        return self._filled(like, lambda out, generator: out.bernoulli_(probability, generator=generator))

    def signs(self, like: Tensor) -> Tensor:
        """Return 1 or −1, each half of the time."""
        return self.kept(like, 0.5).mul_(2).sub_(1)

    def integers(self, high: int, size: int, device: torch.device) -> Tensor:
        """Return numbers below `high`, shape (*M, size)."""
        if not self.generators:
            own = own_generator(torch.empty(0, device=device).device)
            return torch.randint(high, (size,), device=device, generator=own)
        return torch.stack(
            [torch.randint(high, (size,), device=device, generator=g) for g in self.generators]
        )


class SixteenBitDraws(Draws):
    """Draws whose masks take 16 random bits a figure, and on a CPU a sixth of the time.

    Probabilities are rounded to a 65,536th there. Masks are not those that torch's dropout would draw from the same
    generators: for members that no network is to be equal to which is trained alone.
    """

    def kept(self, like: Tensor, probability: float) -> Tensor:
        """Return 1 where a figure is kept, which has that probability, else 0."""
        if like.device.type != "cpu":
            return super().kept(like, probability)
        lead = like.shape[: len(self.generators[:1])]
        n = math.prod(like.shape[len(lead) :])
        words = torch.empty((*lead, -(-n // 4)), dtype=torch.int64)
        words = self._filled(words, lambda out, generator: out.random_(-(2**63), None, generator=generator))
        # Numbers of 16 bits lie in [-32768, 32767], each as often as any other.
        below = min(round(probability * 2**16), 2**16 - 1) - 2**15
        return (words.view(torch.int16)[..., :n] < below).to(like.dtype).view(like.shape)


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Context in which torch's global generator of its device draws what this generator would, which moves on."""
    device = generator.device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        if devices:
            torch.cuda.set_rng_state(generator.get_state(), device)
        else:
            torch.set_rng_state(generator.get_state())
        yield
        generator.set_state(torch.cuda.get_rng_state(device) if devices else torch.get_rng_state())


def random_state_of(parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the states of the global generators that a forward pass on these parameters draws from."""
    states = {"cpu": torch.get_rng_state()}
    for device in {p.device for p in parameters if p.is_cuda}:
        states[str(device)] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, Tensor] | None) -> None:
    """Put the generators back to states that `random_state_of` returned."""
    for device, state in (states or {}).items():
        if device == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available():
            torch.cuda.set_rng_state(state, device)

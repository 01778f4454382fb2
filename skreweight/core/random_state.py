"""Random numbers of a training step, for one network or for each of K from a generator of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Draws:
    """Draws from torch's global generator, or member by member.

    A CPU generator that was seeded like the global one draws the same numbers, so that member k of K draws what
    it would draw alone.

    Parameters
    ----------
    generators : sequence of torch.Generator, default=()
        One a member; empty: one network, which draws from the global generator.
    """

    def __init__(self, generators: Sequence[torch.Generator] = ()) -> None:
        self.generators = list(generators)

    def _filled(self, like: Tensor, fill: Callable[[Tensor, torch.Generator | None], object]) -> Tensor:
        out = torch.empty_like(like, memory_format=torch.contiguous_format)
        if not self.generators:
            fill(out, None)
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
            return torch.randint(high, (size,), device=device)
        return torch.stack(
            [torch.randint(high, (size,), device=device, generator=g) for g in self.generators]
        )


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

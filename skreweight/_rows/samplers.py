"""Which rows an epoch draws: the share of each class, and draws that keep to it as closely as whole rows can."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from skreweight.core.random_state import own_generator

#: β of the effective number of rows (Cui et al. 2019), as LDAM's resampling has it.
BETA = 0.9999
#: q of p_c ∝ n_c^q.
EXPONENTS = {"balanced": 0.0, "sqrt": 0.5}
SAMPLINGS = {*EXPONENTS, "progressive", "effective-number"}


def class_shares(counts: Tensor, sampling: str | float, progress: float = 1.0) -> Tensor:
    """Return p_c, the chance that a drawn row is of class c, of shape (*M, C), float64; 0 for classes without a row.

    With n_c rows of class c and π_c = n_c/Σ n_k:

    ==================== ==================================================================
    ``sampling``         p_c ∝
    ==================== ==================================================================
    a number q           n_c^q (1: natural)
    ``sqrt``             n_c^(1/2)
    ``balanced``         1
    ``progressive``      (1 − a) π_c + a/C, a the progress from 0 to 1 (Kang et al. 2020)
    ``effective-number`` n_c (1 − β)/(1 − β^n_c), β = 0.9999 (Cao et al. 2019)
    ==================== ==================================================================

    Parameters
    ----------
    counts : torch.Tensor of shape (*M, C)
        (Weighted) number of training rows of each class.
    sampling : {"balanced", "sqrt", "progressive", "effective-number"} or float in [0, 1]
    progress : float, default=1.0
    """
    n = counts.double()
    here = n > 0
    if sampling == "progressive":
        natural, even = n / n.sum(-1, keepdim=True), here.double() / here.sum(-1, keepdim=True)
        return (1 - progress) * natural + progress * even
    if sampling == "effective-number":
        sizes = n / -torch.expm1(n * math.log(BETA))
    else:
        sizes = n ** (EXPONENTS[sampling] if isinstance(sampling, str) else sampling)
    sizes = torch.where(here, sizes, 0.0)
    return sizes / sizes.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Sampler:
    """Draws as many rows as there are, by class shares.

    Row i of class c is expected e_i = n p_c m_i/Σ_{j in c} m_j times in an epoch, m its sample weight, which has
    thereby been taken account of. The draws are systematic: rows come in a random order, class by class, as pieces of
    length e_i of a line, and every point u, u + 1, …, u + n − 1 (u uniform in [0, 1)) draws the row it falls on. So a
    row comes ⌊e_i⌋ or ⌈e_i⌉ times, a class within one row of n p_c, no row a second time before all of its class came
    once, and natural shares give each row once: an ordinary shuffle.

    Attributes
    ----------
    codes : torch.Tensor of shape (n,) or (*M, n), int64
        Classes of the training rows.
    shares : torch.Tensor of shape (C,) or (*M, C), float64
    multiplicity : torch.Tensor of shape (n,) or (*M, n), or None
        Sample weights of the training rows.
    generators : sequence of K torch.Generator or None
        What each member draws from; None: the fit's own.
    """

    codes: Tensor
    shares: Tensor
    multiplicity: Tensor | None = None
    generators: Sequence[torch.Generator] | None = None

    def __call__(self) -> Tensor:
        """Draw the positions among the training rows of one epoch, (n,) or (*M, n), in random order."""
        expected = self.expected()
        orders, offsets, places = self._random(expected.shape[-1])
        shape = torch.broadcast_shapes(expected.shape, orders.shape)
        orders, expected, codes = orders.expand(shape), expected.expand(shape), self.codes.expand(shape)
        by_class = orders.gather(-1, codes.gather(-1, orders).argsort(dim=-1, stable=True))
        ends = expected.gather(-1, by_class).cumsum(-1)
        points = offsets + torch.arange(shape[-1], dtype=torch.float64, device=ends.device)
        hit = torch.searchsorted(ends, points.contiguous(), right=True).clamp(max=shape[-1] - 1)
        return by_class.gather(-1, hit).gather(-1, places)

    def expected(self) -> Tensor:
        """Return how often each training row is expected in an epoch, (n,) or (*M, n), float64; their sum is n."""
        m = torch.ones_like(self.codes, dtype=torch.float64)
        if self.multiplicity is not None:
            m = m * self.multiplicity.double()
        shape = torch.broadcast_shapes(self.codes.shape[:-1], self.shares.shape[:-1], m.shape[:-1])
        codes, m = self.codes.expand(*shape, -1), m.expand(*shape, -1)
        shares = self.shares.expand(*shape, -1)
        sizes = torch.zeros_like(shares).scatter_add_(-1, codes, m)
        n = codes.shape[-1]
        return n * shares.gather(-1, codes) * m / sizes.gather(-1, codes)

    def _random(self, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Two orders of n things and a number in [0, 1) between them, for one network or for each member."""
        device = self.codes.device

        def drawn(generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
            where = device if generator is None else generator.device
            order = torch.randperm(n, generator=generator, device=where)
            offset = torch.rand(1, generator=generator, device=where, dtype=torch.float64)
            return order, offset, torch.randperm(n, generator=generator, device=where)

        if self.generators is None:
            return drawn(own_generator(device))
        orders, offsets, places = (
            torch.stack(part).to(device) for part in zip(*[drawn(g) for g in self.generators], strict=True)
        )
        return orders, offsets, places

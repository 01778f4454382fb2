"""Tilted empirical risk with the classes as groups (Li et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, where

from skreweight.weighting._base import NewState, Weighting
from skreweight.weighting._parameters import either, flag, hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
class Term(Weighting):
    """Weights that grow exponentially with the loss of a row's class, and within the class with the row's own.

    The objective is a tilted mean over the classes of tilted means within them, q_c = n_c/N,

        R_c = (1/τ) log mean_{i in c} exp(τ f_i),   R = (1/t) log Σ_c q_c exp(t R_c)         a tilt of 0 is the mean

    whose gradient has the weights

        w_i = exp(t (R_y − R)) · exp(τ (f_i − R_y))/B.

    The R_c are running averages: R_c of the batch enters with the share ``update``, tilted by τ again, where the batch
    has rows of the class. The w_i sum to 1 on all rows at once, and to about 1 on average over many batches. All is
    kept in float64 and in the log domain.

    With t = τ this is the tilt of single rows, which is `ABSGD` with ``lam=1/t`` and ``gamma=update``.

    Parameters
    ----------
    t : float, default=3.0
        Tilt over the classes. Above 0: towards the class with the largest loss; below: towards the smallest; 0: none.
        The authors use 1 to 50.
    tau : float, default=0.0
        Tilt τ within a class. Below 0: against label noise; the authors use (t, τ) = (10, −2).
    update : float in (0, 1], default=0.1
        Share of the present batch in the averages; the paper's is 0.5.
    correct_start : bool, default=True
        Whether the averages begin with the first rows of each class, as if divided by 1 − (1 − update)^k, and classes
        without a row so far are left out of R. The paper starts every R_c at 0.

    Attributes
    ----------
    state_ : dict
        ``"tilted"``, R_c, ``"bias"``, (1 − update)^k after k batches with rows of the class, and ``"shares"``, q_c; all
        of shape (C,).

    References
    ----------
    Li, Beirami, Sanjabi, Smith (2021). Tilted empirical risk minimization. ICLR.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("term", t=5.0)
    Term(t=5.0)
    """

    t: float = number(3.0)
    tau: float = number(0.0)
    update: float = number(0.1, above=0, at_most=1)
    correct_start: bool = flag(True)

    def check_parameters(self) -> None:
        """Raise a ValueError that names the parameter whose value cannot be."""
        super().check_parameters()
        for name in ("t", "tau"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be a finite number, got {getattr(self, name)!r}.")

    def start(self, new: NewState) -> None:
        """Start every average at 0."""
        counts = new.class_counts.double()
        self.state_ = {
            "tilted": torch.zeros_like(counts),
            "bias": torch.ones_like(counts),
            "shares": counts / counts.sum(-1, keepdim=True),
        }

    def weigh(self, step: Step) -> Tensor:
        """Return the tilted weights with the averages that include this batch."""
        f = step.losses.double()
        tilted = self._averages(f, step)  # R_c, (*M, C)
        q = self.state_["shares"]
        if self.correct_start:
            q = where(self.state_["bias"] < 1, q, 0.0)
        r = tilted_mean(tilted, q, self.t)  # (*M, 1)
        r_y = tilted.gather(-1, step.targets)
        exponents = self.t * (r_y - r) + self.tau * (f - r_y)
        return step.counted(exponents.exp() / step.size).to(step.losses.dtype)

    def _averages(self, f: Tensor, step: Step) -> Tensor:
        """Bring the batch into the averages of its classes and return them."""
        old, bias = self.state_["tilted"], self.state_["bias"]
        tau = self.tau.unsqueeze(-1) if isinstance(self.tau, Tensor) else self.tau
        classes = torch.arange(old.shape[-1], device=f.device).unsqueeze(-1)
        counts = step.counted(torch.ones_like(f))
        of_class = where(step.targets.unsqueeze(-2) == classes, counts.unsqueeze(-2), 0.0)  # (*M, C, B)
        of_batch = tilted_mean(f.unsqueeze(-2), of_class, tau)  # (*M, C, 1)
        taken = (of_class.sum(-1) > 0) & f.isfinite().all(-1, keepdim=True)
        # What the past weighs beside the share of the batch: nothing as long as there is none.
        past = (1 - self.update) * (1 - bias if self.correct_start else torch.ones_like(bias))
        shares = torch.stack([past, torch.zeros_like(past) + self.update], dim=-1)
        new = tilted_mean(torch.cat([old.unsqueeze(-1), of_batch], dim=-1), shares, tau).squeeze(-1)
        where(taken, bias * (1 - self.update), bias, out=bias)
        return where(taken, new, old, out=old)


def tilted_mean(values: Tensor, weights: Tensor, tilt: Tensor | float) -> Tensor:
    """Return (1/t) log (Σ_k w_k exp(t v_k)/Σ_k w_k) over the last axis, which stays; the mean where t is 0."""
    shares = weights / weights.sum(-1, keepdim=True)
    scale = either(tilt == 0, 1.0, tilt)
    tilted = torch.logsumexp(scale * values + shares.log(), dim=-1, keepdim=True) / scale
    return either(tilt == 0, (shares * values).sum(-1, keepdim=True), tilted)

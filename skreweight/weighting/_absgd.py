"""Attentional biased stochastic gradient descent (Qi et al., Algorithm 1)."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from skreweight.weighting._base import Step, Weighting


class ABSGD(Weighting):
    """Weights that grow exponentially with a row's loss, normalised by a moving average.

    For each batch (Algorithm 1, steps 4 to 7, of Qi et al.):

        s ← (1 − γ) s + γ · mean_i exp(f_i/λ)
        p_i = exp(f_i/λ)/s,     and the optimiser's step on Σ_i w_i f_i with w_i = p_i/B.

    The w_i sum to about 1 on average over many batches, not in each. All is kept in the log domain and in
    float64, so that float32 losses of any size and λ of either sign give exact weights.

    Parameters
    ----------
    lam : float, default=1.0
        λ. Small: more weight for rows with a large loss. ``inf``: the plain loss. Negative: less weight for
        large losses, against label noise. The authors tune it in {0.1, 1, 5, 10}.
    gamma : float in (0, 1], default=0.9
        γ, the share of the present batch in the average; 1 is a softmax over the batch.
    alpha : float, default=1.0
        Factor on the batch's share that the authors' code has and the paper has not.
    correct_start : bool, default=True
        Divide the average by 1 − (1 − γ)^t, its bias from starting at 0. The authors' code does not.
    add_uniform : bool, default=False
        Use w_i = (p_i + 1)/B, as the authors' script for noisy labels does: the w_i then sum to about 2. (It
        also clips the gradient norm at 5: skorch's ``GradientNormClipping`` callback.)
    max_jump : float or None, default=100.0
        Guard of the average against one absurd loss (λ > 0), in units of the loss: a batch whose
        λ·log mean exp(f/λ) lies more than this above the running average's counts as ten times the average,
        and an average that lies more than this above a batch begins anew, so that the batches after the
        absurd one are not silenced. That one's own weights are not affected (p_i never exceeds B/(γα)). The
        default leaves LDAM alone, whose losses reach 75. None: the paper's average, whatever comes.

    Attributes
    ----------
    state_ : dict
        ``"log_average"``, log s, and ``"n_updates"``, t.

    References
    ----------
    Qi, Xu, Jin, Yin, Yang. Attentional biased stochastic gradient for imbalanced classification.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("absgd", lam=0.5)
    ABSGD(lam=0.5)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "lam": [Real],
        "gamma": [Interval(Real, 0, 1, closed="right")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "correct_start": ["boolean"],
        "add_uniform": ["boolean"],
        "max_jump": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        *,
        lam: float = 1.0,
        gamma: float = 0.9,
        alpha: float = 1.0,
        correct_start: bool = True,
        add_uniform: bool = False,
        max_jump: float | None = 100.0,
    ) -> None:
        self.lam = lam
        self.gamma = gamma
        self.alpha = alpha
        self.correct_start = correct_start
        self.add_uniform = add_uniform
        self.max_jump = max_jump

    def check_parameters(self) -> None:
        """Raise a ValueError that names the parameter whose value cannot be."""
        super().check_parameters()
        if self.lam == 0 or math.isnan(self.lam):
            raise ValueError(
                f"lam must be a number other than 0 (inf gives the plain loss), got {self.lam!r}."
            )

    def start(self, n_rows: int, class_counts: Tensor) -> None:
        """Start the average at 0, in float64: f/λ takes more digits than float32 has."""
        zero = torch.zeros((), dtype=torch.float64, device=class_counts.device)
        self.state_ = {"log_average": zero - math.inf, "n_updates": zero}

    def weigh(self, step: Step) -> Tensor:
        """Return p_i/B with the average that includes this batch."""
        if math.isinf(self.lam):
            return step.uniform()
        n_rows = len(step.losses)
        exponents = step.losses.double() / self.lam
        log_counts = 0.0 if step.multiplicity is None else step.multiplicity.double().log()
        # A row whose loss is not finite takes no part; the training step reports it.
        counted = torch.where(exponents.isfinite(), exponents + log_counts, -math.inf)
        log_s = self._updated_average(counted.logsumexp(0) - math.log(n_rows))
        p = (exponents - log_s).exp()
        if self.add_uniform:
            p = p + 1.0
        return step.times_multiplicity((p / n_rows).to(step.losses.dtype))

    def _updated_average(self, log_mean: Tensor) -> Tensor:
        """Move log s and return it, corrected for its start."""
        stored, n_updates = self.state_["log_average"], self.state_["n_updates"]
        log_old, count = stored, n_updates
        absurd = torch.zeros_like(log_mean, dtype=torch.bool)
        usual = self._corrected(log_old, count)
        if self.max_jump is not None and self.lam > 0:
            jump = self.lam * (log_mean - usual)
            absurd = (count > 0) & (jump > self.max_jump)
            anew = (count > 0) & (jump < -self.max_jump) & log_mean.isfinite()
            log_old, count = torch.where(anew, -math.inf, log_old), torch.where(anew, 0.0, count)
        count = count + 1
        log_new = self._moved(log_old, log_mean)
        kept = torch.where(absurd, self._moved(log_old, usual + math.log(10.0)), log_new)
        # A batch without any finite loss leaves no trace.
        stored.copy_(torch.where(log_mean.isfinite(), kept, stored))
        n_updates.copy_(torch.where(log_mean.isfinite(), count, n_updates))
        return self._corrected(log_new, count)

    def _moved(self, log_old: Tensor, log_mean: Tensor) -> Tensor:
        share = log_mean + math.log(self.gamma * self.alpha)
        if self.gamma == 1:
            return share
        return torch.logaddexp(log_old + math.log1p(-self.gamma), share)

    def _corrected(self, log_average: Tensor, count: Tensor) -> Tensor:
        if not self.correct_start or self.gamma == 1:
            return log_average
        return log_average - torch.log1p(-((1.0 - self.gamma) ** count))

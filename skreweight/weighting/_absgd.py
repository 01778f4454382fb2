"""Attentional biased stochastic gradient descent (Qi et al., Algorithm 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, where

from skreweight.weighting._base import NewState, Weighting
from skreweight.weighting._parameters import either, flag, hyperparameters, log, number
from skreweight.weighting._step import Step


@hyperparameters
class ABSGD(Weighting):
    """Weights that grow exponentially with a row's loss, normalised by a moving average.

    For each batch (Algorithm 1, steps 4 to 7, of Qi et al.):

        s ← (1 − γ) s + γ · mean_i exp(f_i/λ)
        p_i = exp(f_i/λ)/s,     and the optimiser's step on Σ_i w_i f_i with w_i = p_i/B.

    The w_i sum to about 1 on average over many batches, not in each. All is kept in the log domain and in
    float64, so that float32 losses of any size and λ of either sign give exact weights.

    Tilted risk (TERM) with the tilt t of single rows is this method with ``lam=1/t`` and ``gamma`` the batch's share.

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
        ``"log_average"``, log s, and ``"bias"``, (1 − γ)^t.

    References
    ----------
    Qi, Xu, Jin, Yin, Yang. Attentional biased stochastic gradient for imbalanced classification.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("absgd", lam=0.5)
    ABSGD(lam=0.5)
    """

    works_on_shares = True

    lam: float = number(1.0)
    gamma: float = number(0.9, above=0, at_most=1)
    alpha: float = number(1.0, above=0)
    correct_start: bool = flag(True)
    add_uniform: bool = flag(False)
    max_jump: float | None = number(100.0, above=0, or_none=True)

    def check_parameters(self) -> None:
        """Raise a ValueError that names the parameter whose value cannot be."""
        super().check_parameters()
        if self.lam == 0 or math.isnan(self.lam):
            raise ValueError(
                f"lam must be a number other than 0 (inf gives the plain loss), got {self.lam!r}."
            )

    def start(self, new: NewState) -> None:
        """Start the average at 0, in float64: f/λ takes more digits than float32 has."""
        self.state_ = {
            "log_average": new.per_member(-math.inf, torch.float64),
            "bias": new.per_member(1.0, torch.float64),
        }

    def weigh(self, step: Step) -> Tensor:
        """Return p_i/B with the average that includes this batch."""
        exponents = step.losses.double() / self.lam  # (*M, B)
        share = 1.0 / step.size
        log_s, bias = self._average(step.log_sum_exp(exponents), math.log(step.size))  # (*M, 1) each
        # p_i/B, with the average divided by 1 − (1 − γ)^t
        factor = torch.rsub(bias, share, alpha=share) if self.correct_start else share
        weights = step.counted((exponents - log_s).exp() * factor)
        if self.add_uniform:
            weights = weights + step.uniform()
        weights = weights.to(step.losses.dtype)
        if isinstance(self.lam, Tensor):
            return where(self.lam.isinf(), step.uniform(), weights)
        return step.uniform() if math.isinf(self.lam) else weights

    def _average(self, log_sum: Tensor, log_size: float) -> tuple[Tensor, Tensor]:
        """Bring a batch's mean into s; return log s and its bias. One absurd batch must not silence those after it."""
        old, old_bias = self.state_["log_average"], self.state_["bias"]
        share = log_sum + (log(self.gamma * self.alpha) - log_size)
        far = math.inf if self.max_jump is None else either(self.lam < 0, math.inf, self.max_jump / self.lam)
        jump = share - old  # inf at the start, and after absurd batches
        anew = jump < -far  # s was absurd: it begins again with this batch
        log_old = where(anew, -math.inf, old)
        bias = where(anew, 1.0, old_bias) * (1 - self.gamma)
        log_s = torch.logaddexp(log_old + log(1 - self.gamma), share)
        absurd = (jump > far) & (jump < math.inf)  # this batch is: it counts as ten times s
        kept = where(absurd, log_old + log(1 + 9 * self.gamma), log_s)
        finite = share < math.inf  # false for NaN too: such a batch leaves no trace
        where(finite, kept, old, out=old)
        where(finite, bias, old_bias, out=old_bias)
        return log_s, bias

"""Attentional biased stochastic gradient descent (Qi et al., Algorithm 1)."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from skreweight.weighting._base import Step, Weighting
from skreweight.weighting._log_average import with_floats, with_tensors


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

    @property
    def _is_guarded(self) -> bool:
        return self.max_jump is not None and self.lam > 0 and self.gamma < 1

    def start(self, n_rows: int, class_counts: Tensor) -> None:
        """Start the average at 0, in float64: f/λ takes more digits than float32 has."""
        one = torch.ones((), dtype=torch.float64, device=class_counts.device)
        # To the guard an infinite average is one that has to begin anew.
        self.state_ = {"log_average": one * (math.inf if self._is_guarded else -math.inf), "bias": one}

    def weigh(self, step: Step) -> Tensor:
        """Return p_i/B with the average that includes this batch."""
        if math.isinf(self.lam):
            return step.uniform()
        exponents = step.losses.double() / self.lam
        top = exponents.amax()
        weights = step.times_multiplicity((exponents - top).exp_())
        factor = self._factor_on_host if top.device.type == "cpu" else self._factor_on_device
        weights *= factor(top, weights.sum(), len(weights))
        if self.add_uniform:
            weights += step.uniform()
        return weights.to(step.losses.dtype)

    def _factor_on_device(self, top: Tensor, total: Tensor, n_rows: int) -> Tensor:
        """Bring mean exp(f/λ) = exp(top) · total/B into the average s; return exp(top)/(B s)."""
        log_n = math.log(n_rows)
        log_s = log_share = top + total.log() + (math.log(self.gamma * self.alpha) - log_n)
        if self.gamma < 1:
            stored, stored_bias = self.state_["log_average"], self.state_["bias"]
            new = with_tensors(stored, stored_bias, log_share, gamma=self.gamma, furthest=self._furthest)
            # A batch whose losses are not finite leaves no trace.
            leaves_trace = log_share < math.inf  # false for NaN too
            stored.copy_(torch.where(leaves_trace, new.log_kept, stored))
            stored_bias.copy_(torch.where(leaves_trace, new.bias, stored_bias))
            log_s = new.log_s - torch.log1p(-new.bias) if self.correct_start else new.log_s
        return (top - log_n - log_s).exp_()

    def _factor_on_host(self, top: Tensor, total: Tensor, n_rows: int) -> float:
        """Do the same on the CPU alone, where reading a number waits for nothing.

        An operation on a tensor of one number takes ten times that on a float, and there are twenty.
        """
        log_n, log_top, summed = math.log(n_rows), top.item(), total.item()
        log_total = math.log(summed) if summed else -math.inf
        log_s = log_share = log_top + log_total + (math.log(self.gamma * self.alpha) - log_n)
        if not log_share < math.inf:
            return math.nan
        if self.gamma < 1:
            stored, stored_bias = self.state_["log_average"], self.state_["bias"]
            new = with_floats(
                stored.item(), stored_bias.item(), log_share, gamma=self.gamma, furthest=self._furthest
            )
            stored.fill_(new.log_kept)
            stored_bias.fill_(new.bias)
            log_s = new.log_s - math.log1p(-new.bias) if self.correct_start else new.log_s
        return math.exp(log_top - log_n - log_s)

    @property
    def _furthest(self) -> float:
        return math.inf if self.max_jump is None or self.lam < 0 else self.max_jump / self.lam

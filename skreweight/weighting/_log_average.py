"""The moving average that ABSGD divides by, kept as a logarithm, with its guard against one absurd batch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class LogAverage(NamedTuple):
    """s ← (1 − γ)s + share of the batch, in logarithms: floats or tensors of one number.

    ``log_s`` includes the batch; ``log_kept`` is what the next batch is to find, less where this one was absurd;
    ``bias`` is (1 − γ)^t, the part of s that is still its start at 0.
    """

    log_s: Any
    log_kept: Any
    bias: Any


def with_floats(
    log_old: float, bias: float, log_share: float, *, gamma: float, furthest: float
) -> LogAverage:
    """Bring a batch's share into the average, on the host.

    Parameters
    ----------
    log_old, bias : float
        As they were kept.
    log_share : float
    gamma : float below 1
    furthest : float
        How far apart, in logarithms, average and share may lie; inf: any distance.
    """
    jump = log_share - log_old
    if jump < -furthest:
        log_old, bias = -math.inf, 1.0
    low, high = sorted((log_old + math.log1p(-gamma), log_share))
    log_s = high + math.log1p(math.exp(low - high)) if low > -math.inf else high
    log_kept = log_old + _log_ten_times(gamma) if jump > furthest else log_s
    return LogAverage(log_s, log_kept, bias * (1.0 - gamma))


def with_tensors(
    log_old: Tensor, bias: Tensor, log_share: Tensor, *, gamma: float, furthest: float
) -> LogAverage:
    """Do as `with_floats` does, without a look at any figure: nothing waits for the device."""
    jump = log_share - log_old
    anew = jump < -furthest
    log_old, bias = log_old.masked_fill(anew, -math.inf), bias.masked_fill(anew, 1.0)
    log_s = torch.logaddexp(log_old + math.log1p(-gamma), log_share)
    log_kept = torch.where(jump > furthest, log_old + _log_ten_times(gamma), log_s)
    return LogAverage(log_s, log_kept, bias * (1.0 - gamma))


def _log_ten_times(gamma: float) -> float:
    """How much the average grows by a batch that counts as ten times the average."""
    return math.log(1.0 - gamma + 10.0 * gamma)

"""The L_p penalty of Liu et al. 2022, section 4.1: Σ_k |θ_k|^p."""

from __future__ import annotations

import torch
from torch import Tensor

from skreweight.core.model import Parameters


def lp_penalty(parameters: Parameters, norm: float) -> Tensor:
    """Return Σ_k |θ_k|^norm over all parameters, a scalar."""
    sums = [p.detach().abs().pow(norm).sum() for p in parameters]
    return torch.stack(sums).sum()


def lp_penalty_gradient(parameters: Parameters, norm: float) -> list[Tensor]:
    """Return norm·|θ|^(norm−1)·sign(θ), shaped like the parameters; 0 at θ = 0."""
    return [norm * p.detach().abs().pow(norm - 1) * p.detach().sign() for p in parameters]

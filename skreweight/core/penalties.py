"""The L_p penalty of Liu et al. 2022, section 4.1: Σ_k |θ_k|^p."""

from __future__ import annotations

import torch
from torch import Tensor

from skreweight.core.members import Parameters, each


def lp_penalty(parameters: Parameters, norm: Tensor | float, n_lead: int = 0) -> Tensor:
    """Return Σ_k |θ_k|^norm over all parameters, (*M, 1); `norm` is a number, or one a member."""
    powers = [p.detach().abs().pow(each(norm, p)) for p in parameters]
    sums = [p.flatten(n_lead).sum(-1, keepdim=True) if p.dim() > n_lead else p.unsqueeze(-1) for p in powers]
    return torch.stack(sums).sum(0)


def lp_penalty_gradient(parameters: Parameters, norm: Tensor | float) -> list[Tensor]:
    """Return norm·|θ|^(norm−1)·sign(θ), shaped like the parameters; 0 at θ = 0."""
    return [each(norm, p) * p.detach().abs().pow(each(norm - 1, p)) * p.detach().sign() for p in parameters]

"""How stored weights become the weights of a batch (Hu et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor


def normalized(raw: Tensor, kind: str, temperature: float, multiplicity: Tensor | None) -> Tensor:
    """Return weights that sum to 1 over the batch.

    Parameters
    ----------
    raw : torch.Tensor of shape (B,)
        Stored weights of the rows.
    kind : {"linear", "softmax"}
        ``"linear"``: max(w, 0)/Σ max(w, 0), all zero where the sum is at most 1e-8.
        ``"softmax"``: exp(w/temperature)/Σ exp(w/temperature).
    temperature : float
    multiplicity : torch.Tensor of shape (B,) or None
        How many times each row counts in the sum.

    Returns
    -------
    torch.Tensor of shape (B,)
    """
    weights = raw.clamp(min=0) if kind == "linear" else (raw / temperature - (raw / temperature).amax()).exp()
    if multiplicity is not None:
        weights = weights * multiplicity
    total = weights.sum()
    return weights * torch.where(total > 1e-8, 1.0 / total, 0.0)

"""The strength of a correction of the logits, chosen on validation rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Strengths that are tried: 0, 0.1, …, 2, as Kang et al. do for τ.
GRID = tuple(step / 10 for step in range(21))


def chosen_strength(logits: Tensor, targets: Tensor, corrected: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Return the strength on the grid with the best mean of the classes' accuracies, (*M, 1).

    Ties go to the lower mean cross-entropy of the corrected logits, further ones to the smaller strength.

    Parameters
    ----------
    logits : torch.Tensor of shape (*M, m, C)
    targets : torch.Tensor of shape (*M, m), int64
    corrected : callable (logits, strength) -> logits
    """
    member = torch.nn.functional.one_hot(targets, logits.shape[-1]).to(logits.dtype)  # (*M, m, C)
    sizes = member.sum(-2)
    accuracies, losses = [], []
    for strength in GRID:
        z = corrected(logits, strength)
        hit = (z.argmax(-1) == targets).to(z.dtype).unsqueeze(-1)
        recall = (hit * member).sum(-2) / sizes.clamp(min=1)
        accuracies.append(recall.sum(-1) / (sizes > 0).sum(-1))
        losses.append(-(torch.log_softmax(z, -1) * member).sum((-1, -2)))
    accuracy, loss = torch.stack(accuracies), torch.stack(losses)  # (G, *M)
    best = accuracy >= accuracy.amax(0) - 1e-6
    place = torch.where(best, loss.nan_to_num(torch.inf), torch.inf).argmin(0)
    return logits.new_tensor(GRID)[place].unsqueeze(-1)

"""Corrections that are made once training is over, and their strength τ, given or chosen on validation rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from skreweight.weighting._base import NewState, Trained
from skreweight.weighting._none import NoWeighting

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


class PostHoc(NoWeighting):
    """Base of methods that train with the plain loss and correct the logits afterwards.

    A subclass has a hyper-parameter ``tau``, and makes the correction in `finish`. Until then τ is NaN.
    """

    tau: float | None

    @property
    def wants_validation(self) -> bool:
        """Whether τ is chosen on validation rows."""
        return self.tau is None

    def start(self, new: NewState) -> None:
        """Correct nothing yet."""
        zeros = torch.zeros_like(new.class_counts)
        self.state_ = {
            "logit_scale": torch.ones_like(zeros),
            "logit_shift": zeros,
            "tau": new.per_member(math.nan),
        }

    def reopen(self) -> None:
        """Correct nothing until training ends again."""
        fresh = {"logit_scale": 1.0, "logit_shift": 0.0, "tau": math.nan}
        self.state_ |= {name: torch.full_like(self.state_[name], value) for name, value in fresh.items()}

    def strength(self, trained: Trained, corrected: Callable[[Tensor, float], Tensor]) -> Tensor:
        """Return τ, (*M, 1), and keep it in the state.

        Parameters
        ----------
        trained : Trained
        corrected : callable (logits of shape (*M, m, C), strength) -> logits
        """
        old = self.state_["tau"]
        if self.tau is None:
            chosen = chosen_strength(*trained.validation(), corrected)
        else:
            chosen = torch.zeros_like(old).add(self.tau)
        self.state_["tau"] = chosen.to(old)
        return self.state_["tau"]

    def corrected(self, logits: Tensor) -> Tensor:
        """Return z' = a∘z + c; a warning says where training has not come to its end, which makes the correction."""
        if bool(self.state_["tau"].isnan().any()):
            warnings.warn(
                f"{type(self).__name__} corrects the logits at the end of training, which this state is in the "
                "middle of: these predictions are the network's own. Call partial_fit, which goes on to the end.",
                stacklevel=2,
            )
        return super().corrected(logits)

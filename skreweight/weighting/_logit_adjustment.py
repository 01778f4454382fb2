"""Post-hoc logit adjustment (Menon et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor

from skreweight.weighting._base import NewState, Trained, Weighting
from skreweight.weighting._correction import chosen_strength
from skreweight.weighting._parameters import hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
class LogitAdjustment(Weighting):
    """Train with the plain loss and predict from logits less the logarithm of the classes' shares.

    Both stages are those of ``"none"``, every w_i is 1/B. Predictions come from

        z' = z − τ log π,      π_c the share of class c among the training rows.

    With τ = 1, and a network whose softmax is right, that is Bayes' rule for classes that come equally often, hence
    for balanced accuracy. For two classes it moves the threshold. A class without a training row is left alone.

    Parameters
    ----------
    tau : float or None, default=1.0
        τ. None: the one in 0, 0.1, …, 2 with the best mean of the classes' accuracies on the validation rows, which
        are then held out.

    Attributes
    ----------
    state_ : dict
        ``"logit_shift"``, −τ log π, and ``"tau"``.

    References
    ----------
    Menon, Jayasumana, Rawat, Jain, Veit, Kumar. Long-tail learning via logit adjustment. ICLR 2021.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("logit-adjustment", tau=0.5)
    LogitAdjustment(tau=0.5)
    """

    changes_weights = False

    tau: float | None = number(1.0, at_least=0, or_none=True)

    @property
    def wants_validation(self) -> bool:
        """Whether τ is chosen on validation rows."""
        return self.tau is None

    def start(self, new: NewState) -> None:
        """Correct nothing yet."""
        counts = new.class_counts
        self.state_ = {"logit_shift": torch.zeros_like(counts), "tau": new.per_member(0.0)}

    def weigh(self, step: Step) -> Tensor:
        """Return 1/B for every row."""
        return step.uniform()

    def finish(self, trained: Trained) -> None:
        """Compute −τ log π."""
        counts = trained.class_counts
        shares = counts / counts.sum(-1, keepdim=True)
        log_shares = torch.where(counts > 0, shares, 1.0).log()
        tau: Tensor | float | None = self.tau
        if tau is None:
            logits, targets = trained.validation()
            tau = chosen_strength(logits, targets, lambda z, t: z - t * log_shares.unsqueeze(-2))
        self.state_["tau"] = torch.zeros_like(self.state_["tau"]).add(tau)
        self.state_["logit_shift"] = -self.state_["tau"] * log_shares

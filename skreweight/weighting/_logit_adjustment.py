"""Post-hoc logit adjustment (Menon et al. 2021)."""

from __future__ import annotations

import torch

from skreweight.weighting._base import Trained
from skreweight.weighting._correction import PostHoc
from skreweight.weighting._parameters import hyperparameters, number


@hyperparameters
class LogitAdjustment(PostHoc):
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
        ``"logit_shift"``, −τ log π, and ``"tau"``, NaN until training has ended.

    References
    ----------
    Menon, Jayasumana, Rawat, Jain, Veit, Kumar. Long-tail learning via logit adjustment. ICLR 2021.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("logit-adjustment", tau=0.5)
    LogitAdjustment(tau=0.5)
    """

    works_on_shares = True
    tau: float | None = number(1.0, at_least=0, or_none=True)

    def finish(self, trained: Trained) -> None:
        """Compute −τ log π."""
        counts = trained.class_counts
        shares = counts / counts.sum(-1, keepdim=True)
        log_shares = torch.where(counts > 0, shares, 1.0).log()
        tau = self.strength(trained, lambda z, t: z - t * log_shares.unsqueeze(-2))
        self.state_["logit_shift"] = -tau * log_shares

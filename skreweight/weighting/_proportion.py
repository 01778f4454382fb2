"""Weights by class frequency."""

from __future__ import annotations

import torch
from torch import Tensor

from skreweight.losses import class_weights
from skreweight.weighting._base import NewState, Weighting
from skreweight.weighting._parameters import choice, hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
class Proportion(Weighting):
    """Weight each row by how rare its class is among the training rows.

    The step minimises Σ_i w_i f_i with w_i = c_y/B. The class weights c have mean 1 over the classes, so the
    w_i sum to 1 in a batch with as many rows of every class, and to less where the rare ones are missing.
    With ``warmup_epochs > 0`` the weights set in after stage 1.

    Parameters
    ----------
    scheme : {"inverse", "inverse-sqrt", "effective-number"}, default="inverse"
        c ∝ 1/n_c, 1/√n_c, or (1 − β)/(1 − β^n_c) (Cui et al. 2019).
    beta : float in [0, 1), default=0.9999
        β of the effective number; the other schemes ignore it.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("proportion", scheme="inverse-sqrt").scheme
    'inverse-sqrt'
    """

    works_on_shares = True

    scheme: str = choice("inverse", "inverse-sqrt", "effective-number")
    beta: float = number(0.9999, at_least=0, below=1)

    def start(self, new: NewState) -> None:
        """Compute the class weights."""
        self.state_ = {"class_weights": weights_of_classes(new.class_counts, self.scheme, self.beta)}

    def weigh(self, step: Step) -> Tensor:
        """Return c_y/B."""
        return step.uniform() * self.state_["class_weights"].gather(-1, step.targets)


def weights_of_classes(counts: Tensor, scheme: str, beta: Tensor | float) -> Tensor:
    """Return weights of mean 1 over the classes, like their counts of shape (*M, C); `beta` may be one a member."""
    betas = beta.flatten().tolist() if isinstance(beta, Tensor) else [beta] * len(counts)
    if counts.dim() == 1:
        return class_weights(counts, scheme=scheme, beta=betas[0]).to(counts)
    members = zip(counts, betas, strict=True)
    return torch.stack([class_weights(c, scheme=scheme, beta=b) for c, b in members]).to(counts)

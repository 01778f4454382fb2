"""Weights by class frequency."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skreweight.losses import class_weights
from skreweight.weighting._base import Step, Weighting


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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "scheme": [StrOptions({"inverse", "inverse-sqrt", "effective-number"})],
        "beta": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, *, scheme: str = "inverse", beta: float = 0.9999) -> None:
        self.scheme = scheme
        self.beta = beta

    def start(self, n_rows: int, class_counts: Tensor) -> None:
        """Compute the class weights."""
        weights = class_weights(class_counts, scheme=self.scheme, beta=self.beta)
        self.state_ = {"class_weights": weights.to(class_counts)}

    def weigh(self, step: Step) -> Tensor:
        """Return c_y/B."""
        return step.uniform() * self.state_["class_weights"].index_select(0, step.targets)

"""META: class weights plus learned conditional weights (Jamal et al. 2020)."""

from __future__ import annotations

from torch import Tensor, where

from skreweight.weighting._base import NewState, Weighting
from skreweight.weighting._parameters import choice, hyperparameters, number
from skreweight.weighting._proportion import weights_of_classes
from skreweight.weighting._step import Step
from skreweight.weighting._virtual_descent import descent_slope


@hyperparameters
class Meta(Weighting):
    """The weight of a row's class, and what the row itself adds to it by its effect on the validation loss.

    With class weights c_y = (1 − β)/(1 − β^n_y), scaled to mean 1 over the classes, for each batch:

        θ̂ = θ − η̃ Σ_i v_i ∇f_i,   v_i = c_y/B                virtual step, of the sum: v_i = c_y
        ε_i = −conditional_step · ∂L_val(θ̂)/∂v_i,              at most bound · c_y in size
        w_i = max(c_y + ε_i, floor)/B, and the optimiser's step on Σ_i w_i f_i with the same batch.

    ε starts at 0 in each batch and is forgotten afterwards. The w_i are not normalised: they sum to about the mean c of
    the batch's rows, as those of `Proportion`, whose ``scheme="effective-number"`` this is for ``conditional_step=0``.
    An estimator's ``class_weight`` would count the classes twice.

    ε goes with the square of the learning rate. With the settings of the authors' code
    (``conditional_step=0.01, virtual_reduction="sum", bound=None``, learning rate 1e-3) it is next to nothing, and the
    method is class weights that set in with stage 2; far larger steps without a bound diverge.

    Parameters
    ----------
    beta : float in [0, 1), default=0.9999
        β of the effective number; n_y counts sample weights.
    conditional_step : float, default=10.0
        Step size τ of the conditional weights; 0.01 in the authors' code. 10 was chosen by trials, with ``bound``.
    virtual_reduction : {"mean", "sum"}, default="mean"
        Whether the virtual step is one on the mean loss, as the optimiser's, or on the sum, as in the authors' code.
    virtual_lr : float or None, default=None
        η̃; None: the optimiser's present learning rate.
    floor : float or None, default=None
        The least that c_y + ε_i may become; None, as the authors: no limit but ``bound``.
    bound : float or None, default=1.0
        How large ε_i may be beside c_y; with 1 no weight is negative. None: no bound, as the authors.
    lp_norm, lp_coef : float, default=2 and 0.0
        The penalty lp_coef · ``Σ_k |θ_k|^lp_norm`` is part of L_val.

    Attributes
    ----------
    state_ : dict
        ``"class_weights"``, a tensor of shape (C,).

    References
    ----------
    Jamal, Brown, Yang, Wang, Gong (2020). Rethinking class-balanced methods for long-tailed visual recognition from a
    domain adaptation perspective. CVPR.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("meta", conditional_step=0.01, virtual_reduction="sum", bound=None).beta
    0.9999
    """

    needs_validation = needs_products = True
    works_on_shares = True

    beta: float = number(0.9999, at_least=0, below=1)
    conditional_step: float = number(10.0, at_least=0)
    virtual_reduction: str = choice("mean", "sum")
    virtual_lr: float | None = number(None, at_least=0)
    floor: float | None = number(None, at_least=0)
    bound: float | None = number(1.0, above=0, or_none=True)
    lp_norm: float = number(2, at_least=1)
    lp_coef: float = number(0.0, at_least=0)

    def start(self, new: NewState) -> None:
        """Compute the class weights."""
        counts = new.class_counts
        self.state_ = {"class_weights": weights_of_classes(counts, "effective-number", self.beta)}

    def weigh(self, step: Step) -> Tensor:
        """Return (c_y + ε_i)/B."""
        c = self.state_["class_weights"].gather(-1, step.targets)
        v = step.counted(c) if self.virtual_reduction == "sum" else step.uniform() * c
        epsilon = -self.conditional_step * descent_slope(step, v, self.virtual_lr)
        epsilon = where(epsilon.isfinite(), epsilon, 0.0)
        if self.bound is not None:
            epsilon = epsilon.clamp(-self.bound * c, self.bound * c)
        total = c + epsilon
        return step.uniform() * (total if self.floor is None else total.clamp(min=self.floor))

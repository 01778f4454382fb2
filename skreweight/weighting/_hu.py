"""Learning data weights (Hu et al. 2019), the first half of Algorithm 1 of Liu et al. 2022."""

from __future__ import annotations

from torch import Tensor, where

from skreweight.core.virtual_step import awaits_averages, weight_gradient
from skreweight.weighting._base import NewState, Weighting
from skreweight.weighting._parameters import choice, count, hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
class Hu(Weighting):
    """One stored weight per training row, learned by gradient descent on the validation loss.

    For each batch (eq. 3 to 5 of Liu et al. 2022), with the rows' stored weights w:

        θ̂ = θ + Σ_i w_i δ_i                              virtual step, δ_i = −η_θ ∇f_i
        w ← max(w/decay − step_size · ∂L_val(θ̂)/∂w, floor)
        ŵ = normalised w, and the optimiser's step on Σ_i ŵ_i f_i with the same batch.

    The ŵ_i sum to 1 over the batch (they are all 0 where the stored weights sum to 1e-8 or less).

    Parameters
    ----------
    initial_weight : float, default=0.0
        Start value of every stored weight. With 1 and ``decay=1`` the gradient hardly moves the weights.
    decay : float, default=10.0
        Divides the stored weight before its update; the authors tune it in {1, 5, 10}.
    step_size : float, default=1.0
        Step size η_w on the weights. With a penalty (Liu's "Hu+R") tuned in {1, 1e-1, 1e-2, 1e-3}.
    normalization : {"linear", "softmax"}, default="linear"
        w/Σw, or softmax(w/temperature).
    temperature : float, default=1.0
        Of the softmax.
    floor : float, default=1e-5
        The least a stored weight may become.
    virtual_step : {"sgd", "optimizer", "optimizer-early-epsilon"}, default="sgd"
        δ_i = −lr·∇f_i, or row i's whole step of the running optimiser (SGD with momentum and weight decay,
        Adam, AdamW), as the authors' code takes it. The last adds eps to √v before Adam's bias correction,
        as their code does and torch did until 1.2. Adam's step exists only once the optimiser has averages:
        the very first batch is weighted uniformly. Adam's steps are formed row by row, which is slow.
    virtual_batch_size : int or None, default=None
        Rows that share a virtual step; None: all of the batch. The authors' text code uses 8.
    lp_norm, lp_coef : float, default=2 and 0.0
        The penalty lp_coef · ``Σ_k |θ_k|^lp_norm`` is part of L_val ("Hu+R").

    Attributes
    ----------
    state_ : dict
        ``"weights"``, a tensor of shape (n_rows,).

    References
    ----------
    Hu, Tan, Salakhutdinov, Mitchell, Xing (2019). Learning data manipulation for augmentation and weighting.
    NeurIPS.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("hu", decay=5.0).decay
    5.0
    """

    needs_validation = needs_products = True
    works_on_shares = True

    initial_weight: float = number(0.0, at_least=0)
    decay: float = number(10.0, above=0)
    step_size: float = number(1.0, at_least=0)
    normalization: str = choice("linear", "softmax")
    temperature: float = number(1.0, above=0)
    floor: float = number(1e-5, at_least=0)
    virtual_step: str = choice("sgd", "optimizer", "optimizer-early-epsilon")
    virtual_batch_size: int | None = count(None, at_least=1)
    lp_norm: float = number(2, at_least=1)
    lp_coef: float = number(0.0, at_least=0)

    def start(self, new: NewState) -> None:
        """Store the start value for every row."""
        self.state_ = {"weights": new.per_row(self.initial_weight)}

    def weigh(self, step: Step) -> Tensor:
        """Return the normalised weights after their update on the validation loss."""
        if awaits_averages(self.virtual_step, step.optimizer):
            return step.uniform()
        assert step.validation is not None
        w = self.stored(step.rows)
        # ∂L_val(θ̂)/∂w, eq. 4
        slope = weight_gradient(
            step.virtual(self.virtual_step), step.counted(w), step.validation, self.virtual_batch_size
        )
        moved = (w / self.decay - self.step_size * slope).clamp(min=self.floor)  # eq. 5
        w = where(moved.isfinite(), moved, w)
        self.store(step.rows, w)
        return self.normalized(w, step)

    def normalized(self, w: Tensor, step: Step) -> Tensor:
        """Return ŵ, which sums to 1 over the batch, or is 0.

        Parameters
        ----------
        w : torch.Tensor of shape (*M, B)
            Stored weights.
        step : Step
            The batch that they belong to.
        """
        return sum_to_one(
            w.clamp(min=0) if self.normalization == "linear" else step.exp_below_max(w / self.temperature),
            step,
        )


def sum_to_one(w: Tensor, step: Step) -> Tensor:
    """Return weights (*M, B) divided by their sum over the batch; all 0 where it is at most 1e-8."""
    w = step.counted(w)
    total = step.sum(w)
    return w * where(total > 1e-8, 1.0 / total, 0.0)

"""Exponentiated gradient on stored weights (Majidi et al. 2021)."""

from __future__ import annotations

import math

from torch import Tensor, where

from skreweight.weighting._base import NewState, Weighting
from skreweight.weighting._parameters import choice, flag, hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
class EG(Weighting):
    """One stored weight per training row, multiplied by the exponential of its loss each time it comes by.

    For each batch, with the rows' stored weights w:

        w ← w^(1/decay) · exp(−η f)          times what keeps the batch's sum, with ``keep_batch_mass``
        ŵ = w/Σw, and the optimiser's step on Σ_i ŵ_i f_i with the same batch.

    The ŵ_i sum to 1. Kept is log w, which starts at 0. With η < 0 hard rows gain weight, for imbalance; with η > 0 they
    lose it, against label noise, as in the paper. The spread grows as exp(η · epochs · Δf): ``decay`` bounds it.

    The paper's details of normalisation within mini-batches are not known here. Inside a batch only the proportions
    matter, so that its global normaliser plays no part. Bar et al. (2021) differ in one thing only: their update sums
    up the losses of all rows at the end of each epoch (``update="after"``, ``keep_batch_mass=False`` comes close).

    Parameters
    ----------
    eta : float, default=-0.1
        η. Below 0: hard rows gain weight; above 0: they lose it.
    keep_batch_mass : bool, default=True
        Whether an update leaves the sum of the batch's weights as it was. Without it, rows whose batches have small
        losses gain on the others where η > 0.
    update : {"before", "after"}, default="before"
        Whether the step uses the weights after their update or before it.
    decay : float, default=1.0
        Divides log w before its update; above 1 old losses fade.

    Attributes
    ----------
    state_ : dict
        ``"weights"``, log w, a tensor of shape (n_rows,).

    References
    ----------
    Majidi, Amid, Talebi, Warmuth (2021). Exponentiated gradient reweighting for robust training under label noise and
    beyond.

    Bar, Koren, Giryes (2021). Multiplicative reweighting for robust neural network optimization.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("eg", eta=0.1, update="after").eta
    0.1
    """

    works_on_shares = True

    eta: float = number(-0.1)
    keep_batch_mass: bool = flag(True)
    update: str = choice("before", "after")
    decay: float = number(1.0, above=0)

    def check_parameters(self) -> None:
        """Raise a ValueError that names the parameter whose value cannot be."""
        super().check_parameters()
        if not math.isfinite(self.eta):
            raise ValueError(f"eta must be a finite number, got {self.eta!r}.")

    def start(self, new: NewState) -> None:
        """Give every row the weight 1."""
        self.state_ = {"weights": new.per_row(0.0)}

    def weigh(self, step: Step) -> Tensor:
        """Return the weights of the batch, normalised by their sum."""
        old = self.stored(step.rows)
        new = old / self.decay - self.eta * step.losses
        if self.keep_batch_mass:
            new = new + step.log_sum_exp(old) - step.log_sum_exp(new)
        finite = step.gathered(step.losses).isfinite().all(-1, keepdim=True)
        self.store(step.rows, where(finite, new, old))
        used = new if self.update == "before" else old
        return step.counted((used - step.log_sum_exp(used)).exp())

    @property
    def stored_weights(self) -> Tensor | None:
        """Stored weights w, one per row of X, (*M, N), divided by the largest where that is above 1."""
        log_w = self.state_["weights"]
        return (log_w - log_w.amax(-1, keepdim=True).clamp(min=0)).exp()

"""Learning example weights with a constraint (Liu, Cao, Fan 2022, Algorithm 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from skreweight.core.constraint import constraint_step
from skreweight.weighting._base import NewState
from skreweight.weighting._hu import Hu
from skreweight.weighting._parameters import choice, count, flag, hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
class Ours(Hu):
    """A step of Hu et al., then steps of learning with a constraint that move weights and network together.

    Algorithm 1 of Liu et al. 2022: lines 3 to 5 are `Hu`; then, ``n_constraint_steps`` times (lines 6 to 9,
    eq. 7 to 9), with h = 1/(D + damping) in place of the inverse Hessian of the weighted training loss,

        u  = Fᵀ(h∘∇L_val)
        w' = w + η u
        θ' = θ − h∘F(w' − w).

    To first order L_val falls by η‖u‖², so that η = min(constraint_step_size, polyak · L_val/‖u‖²) asks for at
    most a fraction ``polyak`` of the loss. With ``backtrack`` a step that raises L_val is not taken, and the
    next one tries a quarter of the η it would otherwise take (after one that is taken: twice, up to all of it).

    w are the normalised weights of the batch, which sum to 1: multiplying all stored weights by a constant
    changes nothing here. Rows and validation rows are seen in evaluation mode (no dropout, running
    statistics). Theorem 1 of the paper bounds H but needs its reciprocal bounded, which only the damping does.

    Parameters
    ----------
    initial_weight, decay, step_size, normalization, temperature
        As in `Hu`.
    floor : float, default=0.0
        As in `Hu`, whose 1e-5 makes a batch in which every row does harm one of equal weights: the plain loss.
    virtual_step, virtual_batch_size
        As in `Hu`.
    lp_norm, lp_coef : float, default=2 and 0.0
        The penalty lp_coef · ``Σ_k |θ_k|^lp_norm`` is part of L_val.
    n_constraint_steps : int, default=1
        T', tuned by the paper in {1, 5, 10, 15, 30}. 0 is `Hu` with the same ``floor`` and the estimator's
        ``restart_stage_two``.
    constraint_step_size : float or None, default=None
        Upper limit of η, tuned by the paper in {1e-2, 1e-3, 1e-4, 1e-5}; None: the cap alone.
    polyak : float or None, default=0.01
        Fraction of L_val that one step may ask for; None: no cap, a step size is then required.
    curvature : {"auto", "ggn", "ggn-mc", "hessian", "fisher", "identity"}, default="auto"
        D: the diagonal of the generalised Gauss-Newton matrix (the Hessian's own for networks of ReLUs), which
        costs a backpropagation for each class but one; its unbiased Monte Carlo estimate, which costs one; the
        absolute value of Hutchinson's estimate of the Hessian's; of the empirical Fisher matrix; or ones.
        ``"auto"``: ``"ggn"`` up to 16 classes, ``"ggn-mc"`` above.
    damping : float, default=0.1
        Added to D, absolute.
    n_probes : int, default=1
        Draws that an estimated D averages: for "ggn-mc" and "hessian", and for "ggn" and "fisher" where the network has
        parameters outside layers that are linear in them.
    backtrack : bool, default=True
        Whether to make sure that L_val after each step is not above L_val before it.

    Attributes
    ----------
    state_ : dict
        ``"weights"``, a tensor of shape (n_rows,), and ``"share"``, how much of η the next step tries.

    References
    ----------
    Liu, Cao, Fan (2022). Improving the accuracy of learning example weights for imbalanced classification.
    ICLR.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("ours", n_constraint_steps=5).n_constraint_steps
    5
    """

    restarts = True  # what Adam remembers of stage 1 is of other gradients: see docs/results/restart.md

    floor: float = number(0.0, at_least=0)
    n_constraint_steps: int = count(1, at_least=0)
    constraint_step_size: float | None = number(None, at_least=0)
    polyak: float | None = number(0.01, above=0, or_none=True)
    curvature: str = choice("auto", "ggn", "ggn-mc", "hessian", "fisher", "identity")
    damping: float = number(0.1, at_least=0)
    n_probes: int = count(1, at_least=1)
    backtrack: bool = flag(True)

    def check_parameters(self) -> None:
        """Raise a ValueError that names the parameter whose value cannot be."""
        super().check_parameters()
        if self.polyak is None and self.constraint_step_size is None:
            raise ValueError("polyak=None leaves the step size free: set constraint_step_size.")

    def start(self, new: NewState) -> None:
        """Store the start value for every row; begin with whole steps."""
        super().start(new)
        self.state_["share"] = new.per_member(1.0)

    def after_step(self, step: Step) -> None:
        """Take the constraint steps and move the stored weights along."""
        if self.n_constraint_steps == 0:
            return
        assert step.validation is not None
        share = self.state_["share"]
        raw = self.stored(step.rows)
        for _ in range(self.n_constraint_steps):
            weights = self.normalized(raw, step)
            products, validation_now = step.now()
            moved = constraint_step(
                products,
                weights,
                step.validation,
                multiplicity=step.multiplicity,
                curvature=self.curvature,
                damping=self.damping,
                n_probes=self.n_probes,
                step_size=self.constraint_step_size,
                polyak=self.polyak,
                share=share if self.backtrack else None,
                halted=step.halted,
                known=validation_now,
                exchange=step.exchange,
            )
            share.copy_(moved.share)
            if step.diagnostics is not None:
                step.note("constraint_step_size", moved.step_size)
                step.note("validation_loss_before", moved.loss_before)
                step.note("validation_loss_after", moved.loss_after)
            raw = self._moved(raw, weights, moved.weight_change, step)
        self.store(step.rows, raw)

    def _moved(self, raw: Tensor, weights: Tensor, change: Tensor, step: Step) -> Tensor:
        """Return the stored weights that, normalised, have moved by the change."""
        if self.normalization == "linear":
            updated = raw + step.sum(step.counted(raw.clamp(min=0))) * change
        else:
            share = weights if step.multiplicity is None else weights / step.multiplicity
            least = torch.finfo(share.dtype).tiny
            ratio = (share + change).clamp(min=least) / share.clamp(min=least)
            updated = raw + self.temperature * ratio.log()
        return updated.clamp(min=self.floor)

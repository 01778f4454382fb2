"""Learning data weights (Hu et al. 2019), the first half of Algorithm 1 of Liu et al. 2022."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor
from torch.optim import Adam, AdamW

from skreweight.core.virtual_step import has_state
from skreweight.weighting._base import Step, Weighting
from skreweight.weighting._normalization import normalized
from skreweight.weighting._penalty import PENALTY_CONSTRAINTS
from skreweight.weighting._virtual_step import VIRTUAL_STEPS, virtual_step


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

    needs_validation = True
    needs_gradients = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "initial_weight": [Interval(Real, 0, None, closed="left")],
        "decay": [Interval(Real, 0, None, closed="neither")],
        "step_size": [Interval(Real, 0, None, closed="left")],
        "normalization": [StrOptions({"linear", "softmax"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "floor": [Interval(Real, 0, None, closed="left")],
        "virtual_step": [StrOptions(set(VIRTUAL_STEPS))],
        "virtual_batch_size": [Interval(Integral, 1, None, closed="left"), None],
        **PENALTY_CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        initial_weight: float = 0.0,
        decay: float = 10.0,
        step_size: float = 1.0,
        normalization: str = "linear",
        temperature: float = 1.0,
        floor: float = 1e-5,
        virtual_step: str = "sgd",
        virtual_batch_size: int | None = None,
        lp_norm: float = 2,
        lp_coef: float = 0.0,
    ) -> None:
        self.initial_weight = initial_weight
        self.decay = decay
        self.step_size = step_size
        self.normalization = normalization
        self.temperature = temperature
        self.floor = floor
        self.virtual_step = virtual_step
        self.virtual_batch_size = virtual_batch_size
        self.lp_norm = lp_norm
        self.lp_coef = lp_coef

    def start(self, n_rows: int, class_counts: Tensor) -> None:
        """Store the start value for every row."""
        self.state_ = {"weights": class_counts.new_full((n_rows,), float(self.initial_weight))}

    def weigh(self, step: Step) -> Tensor:
        """Return the normalised weights after their update on the validation loss."""
        if (
            self.virtual_step != "sgd"
            and isinstance(step.optimizer, Adam | AdamW)
            and not has_state(step.optimizer)
        ):
            return step.uniform()
        stored = self.state_["weights"]
        raw = stored.index_select(0, step.rows)
        gradient = self._weight_gradient(step, raw)
        updated = (raw / self.decay).sub_(gradient, alpha=self.step_size).clamp_(min=self.floor)
        updated = torch.where(updated.isfinite(), updated, raw)
        stored.index_copy_(0, step.rows, updated)
        return self._normalized(updated, step)

    def _weight_gradient(self, step: Step, raw: Tensor) -> Tensor:
        """∂L_val(θ̂)/∂w."""
        assert step.validation is not None
        rows_steps = virtual_step(self.virtual_step, step)
        counted = step.times_multiplicity(raw)
        if self.virtual_batch_size is None or self.virtual_batch_size >= len(raw):
            _, gradient = step.validation.value_and_gradient(rows_steps.parameters(counted))
            return rows_steps.pull_back(gradient)
        parts = []
        for start in range(0, len(raw), self.virtual_batch_size):
            rows = slice(start, start + self.virtual_batch_size)
            alone = torch.zeros_like(counted)
            alone[rows] = counted[rows]
            _, gradient = step.validation.value_and_gradient(rows_steps.parameters(alone))
            parts.append(rows_steps.pull_back(gradient)[rows])
        return torch.cat(parts)

    def _normalized(self, raw: Tensor, step: Step) -> Tensor:
        return normalized(raw, self.normalization, self.temperature, step.multiplicity)

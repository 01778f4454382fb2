"""What a weighting is: numbers to set, state indexed by row, one set of weights a batch.

Shapes: M is () for one network and (K,) for K trained at once. What belongs to a parameter is (*M, ...), what
belongs to the rows of a batch (*M, B), what belongs to the whole batch (*M, 1); a number that members set each for
itself is (K, 1) and broadcasts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import validate_parameter_constraints
from torch import Tensor

from skreweight.core.output_layer import OutputLayer
from skreweight.weighting._parameters import allowed_by, stacked_parameters
from skreweight.weighting._step import Step


@dataclass(frozen=True)
class NewState:
    """What the state of a weighting is made for.

    Attributes
    ----------
    n_rows : int
        Rows of X.
    class_counts : torch.Tensor of shape (*M, C)
        (Weighted) number of training rows of each class; its device and dtype are those of the state.
    """

    n_rows: int
    class_counts: Tensor

    def per_row(self, value: Tensor | float) -> Tensor:
        """Return a number for every row of X, or one a member, as a tensor (*M, N).

        Parameters
        ----------
        value : float, or torch.Tensor of shape (*M, 1)
        """
        shape = (*self.class_counts.shape[:-1], self.n_rows)
        if isinstance(value, Tensor):
            return value.to(self.class_counts).expand(shape).clone()
        return self.class_counts.new_full(shape, float(value))

    def per_member(self, value: float, dtype: torch.dtype | None = None) -> Tensor:
        """Return a number as a tensor (*M, 1).

        Parameters
        ----------
        value : float
        dtype : torch.dtype, default=None
            None: that of ``class_counts``.
        """
        shape = (*self.class_counts.shape[:-1], 1)
        return torch.full(
            shape, value, dtype=dtype or self.class_counts.dtype, device=self.class_counts.device
        )


@dataclass(frozen=True)
class Trained:
    """A network that has been trained, as a correction of its logits is fitted to it.

    Attributes
    ----------
    class_counts : torch.Tensor of shape (*M, C)
        (Weighted) number of training rows of each class.
    validation : callable () -> (logits of shape (*M, m, C), targets of shape (*M, m))
        Of the validation rows; a ValueError says where there are none.
    classifier : callable () -> (W of shape (*M, C, D), b of shape (*M, C) or None)
        Of the layer that makes the logits W φ + b; only where the weighting has ``needs_classifier``.
    """

    class_counts: Tensor
    validation: Callable[[], tuple[Tensor, Tensor]]
    classifier: Callable[[], tuple[Tensor, Tensor | None]]


class Weighting(BaseEstimator):
    """Base of all weightings: parameters as in scikit-learn, state as tensors, one set of weights a batch.

    A subclass names its hyper-parameters as fields, makes its state in `start`, and returns the weights w of a
    batch in `weigh`: the training step then minimises Σ_i w_i f_i(θ). What follows the optimiser's step goes into
    `after_step`.

    Attributes
    ----------
    needs_validation : bool
        Whether validation rows are carved from the training rows when the user gave none.
    needs_products : bool
        Whether `weigh` works with F w and Fᵀv.
    changes_weights : bool
        Whether any row ever weighs something else than its sample weight.
    needs_classifier : bool
        Whether `finish` works with the layer that makes the logits, or the method trains it.
    restarts : bool
        Whether its stage begins with a new optimiser, unless the user says otherwise.
    trains_correction : bool
        Whether what its stage trains is the correction, and the network stays as it is.
    works_on_shares : bool
        Whether `weigh` and `after_step` are right where the step has one process's share of the batch: figures of the
        whole batch come from ``step.sum``, ``step.max``, ``step.log_sum_exp``, ``step.size``. Otherwise each process
        is given all rows of the batch, which serves methods without products and stored weights; others are refused.
    state_ : dict of str to torch.Tensor
        Made by `start`; all that training needs to go on where it stopped.
    """

    needs_validation: ClassVar[bool] = False
    needs_products: ClassVar[bool] = False
    changes_weights: ClassVar[bool] = True
    needs_classifier: ClassVar[bool] = False
    restarts: ClassVar[bool] = False
    trains_correction: ClassVar[bool] = False
    works_on_shares: ClassVar[bool] = False

    state_: dict[str, Tensor]

    def check_parameters(self) -> None:
        """Raise a ValueError that names the parameter whose value cannot be."""
        allowed = allowed_by(type(self))
        values = {name: value for name, value in self.get_params(deep=False).items() if name in allowed}
        validate_parameter_constraints(allowed, values, type(self).__name__)

    @property
    def wants_validation(self) -> bool:
        """Whether validation rows are needed with the parameters as they are."""
        return self.needs_validation

    @classmethod
    def stacked(cls, members: Sequence[Self], like: Tensor) -> Self:
        """Return one weighting for K members: numbers that differ become (K, 1) tensors, all else must agree.

        Parameters
        ----------
        members : sequence of K weightings of this class
        like : torch.Tensor
            Of the dtype and on the device of the training.

        Raises
        ------
        ValueError
            Where the members differ in a parameter that is no number.
        """
        return cls(**stacked_parameters(cls, members, like))

    def plan(self, stages: Sequence[Any]) -> list[Any]:
        """Return the stages of a training as the method wants them: frozen dataclasses, changed by `replace`.

        Parameters
        ----------
        stages : sequence of skreweight._training.stage.Stage
            Those that every method has; ``stage.weighting is self`` in its own.
        """
        return list(stages)

    def weights_of_untouched_rows(self) -> float:
        """Return what a training row weighs that no step of the method's stage came to: 1, as in a plain mean."""
        return 1.0

    def start(self, new: NewState) -> None:
        """Allocate the state.

        Parameters
        ----------
        new : NewState
            How many rows and classes there are, and where the state lives.
        """
        self.state_ = {}

    def weigh(self, step: Step) -> Tensor:
        """Return the weights w of the batch, shape (*M, B); they carry no gradient.

        A tensor that no later step writes over: what an epoch notes of it is read some steps later.

        Parameters
        ----------
        step : Step
            The batch: its rows, their losses, and what else the method asked for.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no method weigh: define weigh(step), which returns weights of shape (B,)."
        )

    def after_step(self, step: Step) -> None:
        """Do what follows the optimiser's step.

        Parameters
        ----------
        step : Step
            The batch that `weigh` saw.
        """

    def check_classifier(self, layer: OutputLayer) -> None:
        """Raise a ValueError where the method cannot work with the layer that makes the logits.

        Parameters
        ----------
        layer : OutputLayer
            The layer that makes the logits.
        """

    def reopen(self) -> None:
        """Forget a correction that was fitted to parameters which are about to move."""

    def finish(self, trained: Trained) -> None:
        """Fit the correction to the trained network, whose parameters are the final ones.

        Parameters
        ----------
        trained : Trained
        """

    def corrected(self, logits: Tensor) -> Tensor:
        """Return z' = a∘z + c of logits z (*M, B, C), where the state has a = ``logit_scale`` or c = ``logit_shift``.

        Both have shape (*M, C). Predictions are made from corrected logits.

        Parameters
        ----------
        logits : torch.Tensor of shape (*M, B, C)

        Raises
        ------
        ValueError
            Where there is not one logit for each class.
        """
        scale, shift = self.state_.get("logit_scale"), self.state_.get("logit_shift")
        for part in (scale, shift):
            if part is not None and logits.shape[-1] != part.shape[-1]:
                raise ValueError(
                    f"{type(self).__name__} corrects one logit for each of {part.shape[-1]} classes, the module gives "
                    f"outputs of shape {tuple(logits.shape)}: use a module with one output a class."
                )
        if scale is not None:
            logits = logits * scale.to(logits).unsqueeze(-2)
        return logits if shift is None else logits + shift.to(logits).unsqueeze(-2)

    @property
    def corrects(self) -> bool:
        """Whether predictions are made from other logits than the network's."""
        return not {"logit_scale", "logit_shift"}.isdisjoint(self.__dict__.get("state_", ()))

    def correction(self) -> dict[str, Tensor]:
        """Return what of the state predictions are made with."""
        state = self.__dict__.get("state_", {}) if self.corrects else {}
        return {name: state[name] for name in ("logit_scale", "logit_shift", "tau") if name in state}

    def beside(self) -> dict[str, Tensor]:
        """Return what is trained beside the network, by name: the best of it is kept with the best parameters."""
        return {"logit_scale": self.state_["logit_scale"]} if self.trains_correction else {}

    def stored(self, rows: Tensor) -> Tensor:
        """Return the stored weights of the rows of a batch, (*M, B).

        Parameters
        ----------
        rows : torch.Tensor of shape (*M, B), int64
        """
        return self.state_["weights"].gather(-1, rows)

    def store(self, rows: Tensor, weights: Tensor) -> None:
        """Store weights of the rows of a batch.

        Parameters
        ----------
        rows : torch.Tensor of shape (*M, B), int64
        weights : torch.Tensor of shape (*M, B)
        """
        self.state_["weights"].scatter_(-1, rows, weights)

    def state_of_member(self, k: int, rows: Tensor) -> dict[str, Tensor]:
        """Return the state as member k would have it alone, whose X are some rows of the pack's.

        Parameters
        ----------
        k : int
        rows : torch.Tensor of shape (n,), int64
        """
        own = {name: value[k].clone() for name, value in self.state_.items()}
        return {**own, "weights": own["weights"][rows]} if "weights" in own else own

    @property
    def stored_weights(self) -> Tensor | None:
        """Stored weights, one per row of X, (*M, N), or None where the method keeps none."""
        return self.state_.get("weights")

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state for saving."""
        return dict(self.state_)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved state.

        Parameters
        ----------
        state : mapping of str to torch.Tensor
            What `state_dict` returned.
        """
        self.state_ = {name: torch.as_tensor(value) for name, value in state.items()}

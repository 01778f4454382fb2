"""What a weighting is: numbers to set, state indexed by row, one set of weights a batch.

Shapes: M is () for one network and (K,) for K trained at once. What belongs to a parameter is (*M, ...), what
belongs to the rows of a batch (*M, B), what belongs to the whole batch (*M, 1); a number that members set each for
itself is (K, 1) and broadcasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import validate_parameter_constraints
from torch import Tensor

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
        """Return a number for every row of X, or one a member, as a tensor (*M, N)."""
        shape = (*self.class_counts.shape[:-1], self.n_rows)
        if isinstance(value, Tensor):
            return value.to(self.class_counts).expand(shape).clone()
        return self.class_counts.new_full(shape, float(value))

    def per_member(self, value: float, dtype: torch.dtype | None = None) -> Tensor:
        """Return a number as a tensor (*M, 1)."""
        shape = (*self.class_counts.shape[:-1], 1)
        return torch.full(
            shape, value, dtype=dtype or self.class_counts.dtype, device=self.class_counts.device
        )


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
    state_ : dict of str to torch.Tensor
        Made by `start`; all that training needs to go on where it stopped.
    """

    needs_validation: ClassVar[bool] = False
    needs_products: ClassVar[bool] = False
    changes_weights: ClassVar[bool] = True

    state_: dict[str, Tensor]

    def check_parameters(self) -> None:
        """Raise a ValueError that names the parameter whose value cannot be."""
        allowed = allowed_by(type(self))
        values = {name: value for name, value in self.get_params(deep=False).items() if name in allowed}
        validate_parameter_constraints(allowed, values, type(self).__name__)

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
        """Allocate the state."""
        self.state_ = {}

    def weigh(self, step: Step) -> Tensor:
        """Return the weights w of the batch, shape (*M, B); they carry no gradient."""
        raise NotImplementedError(f"{type(self).__name__} must define weigh(step) -> weights of shape (B,).")

    def after_step(self, step: Step) -> None:
        """Do what follows the optimiser's step."""

    def stored(self, rows: Tensor) -> Tensor:
        """Return the stored weights of the rows of a batch, (*M, B)."""
        return self.state_["weights"].gather(-1, rows)

    def store(self, rows: Tensor, weights: Tensor) -> None:
        """Store weights of the rows of a batch."""
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
        """Take over a saved state."""
        self.state_ = {name: torch.as_tensor(value) for name, value in state.items()}

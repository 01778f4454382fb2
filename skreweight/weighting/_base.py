"""What a weighting is to the training step: the interface every method fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import validate_parameter_constraints
from torch import Tensor
from torch.optim import Optimizer

from skreweight.core.gradients import BatchGradients
from skreweight.core.validation_loss import ValidationLoss


@dataclass
class Step:
    """One mini-batch of stage 2, as a weighting sees it.

    Attributes
    ----------
    rows : torch.Tensor of shape (B,), int64
        Which stored weights belong to the rows of the batch.
    targets : torch.Tensor of shape (B,), int64
        Class codes.
    losses : torch.Tensor of shape (B,)
        f_i(θ), detached.
    multiplicity : torch.Tensor of shape (B,) or None
        How many times each row counts (its ``sample_weight``, mean 1 over the training rows); None: once.
    optimizer : torch.optim.Optimizer
    gradients : BatchGradients or None
        F w and Fᵀv at θ; only where the weighting has ``needs_gradients``.
    validation : ValidationLoss or None
        L_val; only where the weighting has ``needs_validation``.
    gradients_now : callable or None
        Returns the batch's gradients at the parameters as they are when it is called, in evaluation mode, and
        the pair of L_val and ∇L_val there.
    halted : torch.Tensor, a scalar, or None
        Above 0 once a loss or gradient was not finite: what moves parameters in `after_step` must leave them.
        None: whoever gets as far as `after_step` may move them.
    diagnostics : dict or None
        Where scalars for the history go, by name; None while nobody asked for them.
    """

    rows: Tensor
    targets: Any
    losses: Tensor
    multiplicity: Tensor | None
    optimizer: Optimizer
    gradients: BatchGradients | None = None
    validation: ValidationLoss | None = None
    gradients_now: Callable[[], tuple[BatchGradients, tuple[Tensor, list[Tensor]]]] | None = None
    halted: Tensor | None = None
    diagnostics: dict[str, list[Tensor]] | None = field(default=None)

    def times_multiplicity(self, weights: Tensor) -> Tensor:
        """Return the weights with each row counted as often as its sample weight says."""
        return weights if self.multiplicity is None else weights * self.multiplicity

    def uniform(self) -> Tensor:
        """Return the weights of the plain mean loss, 1/B (times the multiplicity)."""
        return self.times_multiplicity(torch.full_like(self.losses, 1.0 / len(self.losses)))

    def note(self, name: str, value: Tensor) -> None:
        """Keep a scalar for the history's diagnostics, if somebody asked for them."""
        if self.diagnostics is not None:
            self.diagnostics.setdefault(name, []).append(value.detach())


class Weighting(BaseEstimator):
    """Base of all weightings: parameters as in scikit-learn, state as tensors, one set of weights a batch.

    A subclass stores its hyper-parameters in ``__init__``, makes its state in `start`, and returns the
    weights w of a batch in `weigh`: the training step then minimises Σ_i w_i f_i(θ). What follows the
    optimiser's step goes into `after_step`.

    Attributes
    ----------
    needs_validation : bool
        Whether validation rows are carved from the training rows when the user gave none.
    needs_gradients : bool
        Whether `weigh` works with F w and Fᵀv.
    changes_weights : bool
        Whether any row ever weighs something else than its sample weight.
    state_ : dict of str to torch.Tensor
        Made by `start`; all that training needs to go on where it stopped.
    """

    needs_validation: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False
    changes_weights: ClassVar[bool] = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    state_: dict[str, Tensor]

    def check_parameters(self) -> None:
        """Raise a ValueError that names the parameter whose value cannot be."""
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )

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

    def start(self, n_rows: int, class_counts: Tensor) -> None:
        """Allocate the state.

        Parameters
        ----------
        n_rows : int
            How many weights to store: one for every row of X.
        class_counts : torch.Tensor of shape (C,)
            (Weighted) number of training rows of each class; its device and dtype are those of the state.
        """
        self.state_ = {}

    def weigh(self, step: Step) -> Tensor:
        """Return the weights w of the batch, shape (B,); they carry no gradient."""
        raise NotImplementedError(f"{type(self).__name__} must define weigh(step) -> weights of shape (B,).")

    def after_step(self, step: Step) -> None:
        """Do what follows the optimiser's step."""

    @property
    def stored_weights(self) -> Tensor | None:
        """Stored weights, one per row of X, or None where the method keeps none."""
        return self.state_.get("weights")

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state for saving."""
        return dict(self.state_)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved state."""
        self.state_ = {name: torch.as_tensor(value) for name, value in state.items()}

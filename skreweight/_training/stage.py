"""What a stage of training is, and what a whole run of stages needs to be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from skreweight._training.schedule import Schedule
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.validation_loss import ROWS_AT_ONCE
from skreweight.weighting import Weighting


@dataclass(frozen=True)
class Stage:
    """One stage: so many epochs with one weighting.

    Attributes
    ----------
    number : int
        1 or 2, as the history names it.
    n_epochs : int
    weighting : Weighting
    loss : ExampleLoss
        Of the training rows, class weights included.
    rows : {"training", "validation"}
        What the mini-batches are drawn from. Validation rows are balanced as they are: class weights and sample
        weights are left out for them, and the penalty of L_val is part of the loss.
    fresh_optimizer : bool
        Whether it begins with a new optimiser.
    keep_best : {"epoch", "step"} or None
        How often the parameters are compared with the best ones on the validation rows; None: never.
    sampler : str, float or None
        How training rows are drawn, as `skreweight._rows.samplers.class_shares` has it; None: each comes once an
        epoch. The user's own sampler or batches win.
    ramp : (int, int)
        The epochs over which ``"progressive"`` goes from natural to balanced: the first of them, and how many.
    trains : sequence of str or None
        Glob patterns of the parameters it trains, and ``"classifier"`` for the layer that makes the logits; None:
        all. Empty: the network stays as it is, in evaluation mode, and what is trained and judged is the weighting's
        correction of its logits.
    resets_classifier : bool
        Whether the layer that makes the logits is made anew at its start.
    learning_rate : Schedule or None
        Sets the learning rates before each step; None: they are left as they are.
    """

    number: int
    n_epochs: int
    weighting: Weighting
    loss: ExampleLoss
    rows: Literal["training", "validation"] = "training"
    fresh_optimizer: bool = False
    keep_best: Literal["epoch", "step"] | None = None
    sampler: str | float | None = None
    ramp: tuple[int, int] = (0, 1)
    trains: Sequence[str] | None = None
    resets_classifier: bool = False
    learning_rate: Schedule | None = None

    @property
    def network_is_fixed(self) -> bool:
        """Whether no parameter of the network is trained, but the weighting's correction of its logits."""
        return self.trains is not None and len(self.trains) == 0

    def progress(self, epochs_done: int) -> float:
        """How far the ramp has come in the next epoch, from 0 to 1."""
        first, n_epochs = self.ramp
        return min(1.0, max(0.0, (epochs_done - first) / (n_epochs - 1))) if n_epochs > 1 else 1.0


def stage_at(stages: Sequence[Stage], epochs_done: int) -> tuple[Stage, int, int]:
    """Return the stage that the next epoch belongs to, and the epochs before it begins and ends.

    What comes after all of them belongs to the last.
    """
    first = 0
    for stage in stages:
        if epochs_done < first + stage.n_epochs:
            break
        if stage is not stages[-1]:
            first += stage.n_epochs
    return stage, first, first + stage.n_epochs


@dataclass(frozen=True)
class Plan:
    """What is to be trained, and how.

    Asked for anew at the begin of every epoch, so that whatever a callback changes is taken up there.

    Attributes
    ----------
    model, optimizer : Model, torch.optim.Optimizer
        On the device of the rows.
    stages : sequence of Stage
    plain_loss : ExampleLoss
        Without class weights, for the validation rows.
    codes_of : callable (outputs of shape (n, ...)) -> class codes of shape (n,)
    labels : ndarray of shape (C,)
        Names of the classes in the diagnostics.
    batches : mapping
        ``batch_size``, ``shuffle`` and so on.
    loader : callable or None
        The user's own loader of training rows.
    validation_batch_size : int or None
        How many validation rows stand for all in each step.
    rows_at_once : int
        How many of them go through the network at once.
    on_nonfinite : {"raise", "skip"}
    autocast : torch.dtype or None
        Precision of the forward passes that need no products of gradients; None: that of the module.
    diagnostics : bool
        Whether figures of the weights are collected from stage 2 on.
    classifier : str
        Name of the layer that makes the logits; "auto": it is looked for where it is needed.
    logits_of : callable (outputs, number of axes M) -> logits of shape (*M, n, C)
        What corrections are made to.
    trusts_products : bool
        Whether fast products of gradients are used without being compared with slow ones first.
    """

    model: Model
    optimizer: Optimizer
    stages: Sequence[Stage]
    plain_loss: ExampleLoss
    codes_of: Callable[[Tensor], Tensor]
    labels: NDArray[Any]
    batches: Mapping[str, Any] = field(default_factory=dict)
    loader: Any = None
    validation_batch_size: int | None = None
    rows_at_once: int = ROWS_AT_ONCE
    on_nonfinite: str = "raise"
    autocast: torch.dtype | None = None
    diagnostics: bool = False
    classifier: str = "auto"
    logits_of: Callable[[Tensor, int], Tensor] = lambda outputs, n_lead: outputs
    trusts_products: bool = False

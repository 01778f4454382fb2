"""Learnable weight scaling (Kang et al. 2020)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import where

from skreweight.weighting._base import NewState
from skreweight.weighting._decoupled import Decoupled
from skreweight.weighting._parameters import hyperparameters, number
from skreweight.weighting._step import Step
from skreweight.weighting._two_classes import warn_of_two_classes


@hyperparameters
class LearnableWeightScaling(Decoupled):
    """Keep the network of stage 1, and train one scale for each class's logit on balanced batches.

    Stage 2 minimises Σ_i w_i f_i(s∘z_i) with w_i = 1/B over the C scales s, which begin at 1; z are the logits of the
    network as it predicts. For each batch, by stochastic gradient descent with momentum:

        v ← momentum · v + Σ_i w_i z_i∘∂f_i/∂z' + weight_decay · s
        s ← s − lr · v

    Nothing keeps s positive, and weight decay pulls it towards 0. Predictions come from s∘z. With two classes it does
    next to nothing. A ``class_weight`` would correct for the classes a second time; ``sampling`` concerns stage 1
    alone.

    Parameters
    ----------
    sampling : {"balanced", "sqrt", "effective-number", "instance"}, default="balanced"
        How stage 2 draws its rows; ``"instance"``: each comes once an epoch.
    lr : float or None, default=None
        Learning rate of the scales; None: that of the optimiser, with the schedules it may have. The authors begin
        at 0.2.
    momentum : float in [0, 1), default=0.9
        Share of the velocity v that each step keeps.
    weight_decay : float, default=5e-4
        How strongly the scales are pulled towards 0.

    Attributes
    ----------
    state_ : dict
        ``"logit_scale"``, s, and ``"velocity"``, v.

    References
    ----------
    Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis. Decoupling representation and classifier for long-tailed
    recognition. ICLR 2020.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("lws", lr=0.1)
    LearnableWeightScaling(lr=0.1)
    """

    works_on_shares = True
    trains_correction = True

    lr: float | None = number(None, above=0)
    momentum: float = number(0.9, at_least=0, below=1)
    weight_decay: float = number(5e-4, at_least=0)

    def changed(self, stage: Any) -> Any:
        """Return the stage with no part of the network to train."""
        if stage.trains is not None:
            raise ValueError(
                "weighting 'lws' trains no part of the network in stage 2, stage_two_trainable names some: leave it "
                "at None, or use weighting 'crt'."
            )
        return replace(super().changed(stage), trains=())

    def start(self, new: NewState) -> None:
        """Begin with scales of 1."""
        counts = new.class_counts
        warn_of_two_classes("lws", counts)
        self.state_ = {"logit_scale": torch.ones_like(counts), "velocity": torch.zeros_like(counts)}

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Take a step with the scales, unless its gradient is not finite."""
        assert step.outputs is not None and step.loss is not None
        s, v, z = self.state_["logit_scale"], self.state_["velocity"], step.outputs
        signal = step.loss.output_gradient(self.corrected(z), step.targets)  # ∂f_i/∂z', (*M, B, C)
        slope = step.exchange.sum(
            (step.uniform().unsqueeze(-1) * signal * z).sum(-2)
        )  # ∂(Σ_i w_i f_i)/∂s, (*M, C)
        lr = step.optimizer.param_groups[0]["lr"] if self.lr is None else self.lr
        moved = self.momentum * v + slope + self.weight_decay * s
        finite = moved.isfinite().all(-1, keepdim=True)
        if step.halted is not None:
            finite = finite & (step.halted == 0)
        v.copy_(where(finite, moved, v))
        s.copy_(where(finite, s - lr * v, s))

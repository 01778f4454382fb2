"""Learning rates and weight decays of members that differ in them, in one optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from skreweight._classifier import ReweightedClassifier
from skreweight.core.members import over
from skreweight.core.model import Model

#: Above it a rate is kept apart from others, whose steps would first be taken at it and could overflow.
LARGEST_RATE = 1e3


def may_differ(net: ReweightedClassifier) -> bool:
    """Whether an optimiser's rate and decay can be those of each member: one group of parameters has both.

    Parameters
    ----------
    net : ReweightedClassifier
        With one of the optimisers that packs know: the steps of all of them are proportional to the rate.
    """
    settings = net.get_params_for("optimizer")
    known = not {"param_groups", "lr", "maximize", "differentiable"} & set(settings)
    return known and net.lr <= LARGEST_RATE


def rates_of(net: ReweightedClassifier) -> tuple[float, float]:
    """Return the learning rate and the weight decay that an estimator's optimiser was made with."""
    group = net.optimizer_.param_groups[0]
    return float(group["lr"]), float(group["weight_decay"])


def set_rates(optimizer: Optimizer, model: Model, nets: Sequence[ReweightedClassifier]) -> None:
    """Give each member of an optimiser its own learning rate and weight decay.

    The optimiser runs at the largest rate; the step of member k is then brought to its share of it,

        p ← before + (lr_k/lr)(p − before).

    Decays that differ are added to the gradients, or taken off the parameters where they are decoupled (AdamW),
    as the optimiser itself would do before its step.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of the stacked parameters, in one group.
    model : Model
    nets : sequence of K ReweightedClassifier
    """
    own = [rates_of(net) for net in nets]
    rates, decays = [lr for lr, _ in own], [decay for _, decay in own]
    top, like = max(rates), model.parameters[0]
    decoupled = isinstance(optimizer, AdamW) or optimizer.param_groups[0].get("decoupled_weight_decay", False)
    same_rate, same_decay = len(set(rates)) == 1, len(set(decays)) == 1
    by_hand = not same_decay or (decoupled and not same_rate)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = top, 0.0 if by_hand else decays[0]
    if by_hand and decoupled:
        _decay_parameters(optimizer, model, _each(like, [1.0 - lr * decay for lr, decay in own]))
    elif by_hand:
        _decay_gradients(optimizer, model, _each(like, decays))
    if not same_rate:
        _share_steps(optimizer, model, _each(like, [lr / top for lr in rates]))


def _each(like: Tensor, values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(-1)


def _decay_parameters(optimizer: Optimizer, model: Model, factor: Tensor) -> None:
    @torch.no_grad()
    def decay(*_: Any) -> None:
        for p in model.parameters:
            p.mul_(over(factor, p))

    optimizer.register_step_pre_hook(decay)


def _decay_gradients(optimizer: Optimizer, model: Model, factor: Tensor) -> None:
    @torch.no_grad()
    def decay(*_: Any) -> None:
        for p in model.parameters:
            if p.grad is not None:
                p.grad.add_(over(factor, p) * p)

    optimizer.register_step_pre_hook(decay)


def _share_steps(optimizer: Optimizer, model: Model, share: Tensor) -> None:
    before: list[Tensor] = []

    @torch.no_grad()
    def remember(*_: Any) -> None:
        before[:] = [p.clone() for p in model.parameters]

    @torch.no_grad()
    def bring(*_: Any) -> None:
        for p, old in zip(model.parameters, before, strict=True):
            torch.lerp(old, p, over(share, p), out=p)

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(bring)

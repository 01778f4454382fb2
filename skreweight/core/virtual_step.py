"""The virtual step θ̂ = θ + Σ_i w_i δ_i and the derivative of a loss at θ̂ with respect to the weights.

δ_i is the step that the optimiser would take for row i alone. ∂θ̂/∂w_i = δ_i, so ∂L(θ̂)/∂w_i = δ_iᵀ∇L(θ̂).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from skreweight.core.gradients import BatchGradients
from skreweight.core.model import Parameters, inner


class VirtualStep(Protocol):
    """The steps δ_1 … δ_B of the rows of a batch."""

    def parameters(self, weights: Tensor) -> list[Tensor]:
        """Return θ + Σ_i w_i δ_i; `weights` has shape (B,)."""
        ...

    def pull_back(self, gradient: Parameters) -> Tensor:
        """Return (δ_iᵀ∇)_i, shape (B,), for a gradient ∇ shaped like the parameters."""
        ...


class AffineStep:
    """δ_i = −(α∇f_i + β): plain gradient descent, and SGD with momentum and weight decay.

    Parameters
    ----------
    gradients : BatchGradients
    rates : list of float
        α for each parameter.
    offsets : list of torch.Tensor or None
        β for each parameter; None stands for zeros.
    """

    def __init__(
        self, gradients: BatchGradients, rates: list[float], offsets: list[Tensor] | None = None
    ) -> None:
        self._gradients, self._rates, self._offsets = gradients, rates, offsets

    @torch.no_grad()
    def parameters(self, weights: Tensor) -> list[Tensor]:
        """Return θ + Σ_i w_i δ_i."""
        moved = list(torch._foreach_mul(self._gradients.weighted(weights), [-r for r in self._rates]))
        if self._offsets is not None:
            moved = [m - weights.sum() * o for m, o in zip(moved, self._offsets, strict=True)]
        return list(torch._foreach_add(moved, [p.detach() for p in self._gradients.model.parameters]))

    @torch.no_grad()
    def pull_back(self, gradient: Parameters) -> Tensor:
        """Return (δ_iᵀ∇)_i."""
        pulled = self._gradients.project(torch._foreach_mul(list(gradient), [-r for r in self._rates]))
        return pulled if self._offsets is None else pulled - inner(self._offsets, gradient)


class RowByRowStep:
    """Steps that are not affine in a row's gradient (Adam's): formed one row at a time, never stored.

    Parameters
    ----------
    gradients : BatchGradients
    step : callable (row gradient) -> step, both shaped like the parameters
    """

    def __init__(self, gradients: BatchGradients, step: Callable[[list[Tensor]], list[Tensor]]) -> None:
        self._gradients, self._step = gradients, step

    def _steps(self) -> Iterator[list[Tensor]]:
        for unit in torch.diag(torch.ones_like(self._gradients.losses)):
            yield self._step(self._gradients.weighted(unit))

    @torch.no_grad()
    def parameters(self, weights: Tensor) -> list[Tensor]:
        """Return θ + Σ_i w_i δ_i."""
        moved = [p.detach().clone() for p in self._gradients.model.parameters]
        for weight, step in zip(weights, self._steps(), strict=True):
            moved = [m + weight * s for m, s in zip(moved, step, strict=True)]
        return moved

    @torch.no_grad()
    def pull_back(self, gradient: Parameters) -> Tensor:
        """Return (δ_iᵀ∇)_i."""
        return torch.stack([inner(step, gradient) for step in self._steps()])


def sgd_step(gradients: BatchGradients, optimizer: Optimizer) -> AffineStep:
    """Return δ_i = −lr·∇f_i with the optimiser's present learning rates."""
    groups = _groups(gradients, optimizer)
    return AffineStep(gradients, [float(group["lr"]) for group in groups])


def optimizer_step(
    gradients: BatchGradients, optimizer: Optimizer, *, early_epsilon: bool = False
) -> VirtualStep:
    """Return δ_i = the whole step of the running optimiser for row i alone, its state as it stands.

    Parameters
    ----------
    gradients : BatchGradients
    optimizer : torch.optim.SGD, Adam or AdamW
        Momentum, averages, weight decay and step counts are read, never written.
    early_epsilon : bool, default=False
        Adam only: add eps to √v before the bias correction, as torch did until version 1.2 and as the code
        of Hu et al. 2019 does. Today's torch divides √v by the correction first.

    Raises
    ------
    ValueError
        For any other optimiser.
    """
    groups = _groups(gradients, optimizer)
    if type(optimizer) is SGD:
        return _sgd_with_state(gradients, optimizer, groups)
    if type(optimizer) in (Adam, AdamW) and not any(g["amsgrad"] for g in groups):
        return _adam_with_state(gradients, optimizer, groups, early_epsilon)
    raise ValueError(
        f"virtual_step='optimizer' knows SGD, Adam and AdamW (without amsgrad), not {type(optimizer).__name__}: "
        "set virtual_step='sgd' or another optimizer."
    )


def has_state(optimizer: Optimizer) -> bool:
    """Whether the optimiser has taken a step, so that Adam's averages exist."""
    return bool(optimizer.state)


def _groups(gradients: BatchGradients, optimizer: Optimizer) -> list[dict[str, Any]]:
    """The optimiser's parameter group of each of the model's parameters."""
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return [group_of[id(p)] for p in gradients.model.parameters]


def _sgd_with_state(
    gradients: BatchGradients, optimizer: Optimizer, groups: list[dict[str, Any]]
) -> AffineStep:
    rates, offsets = [], []
    for p, group in zip(gradients.model.parameters, groups, strict=True):
        lr, momentum, decay = float(group["lr"]), group["momentum"], group["weight_decay"] * p.detach()
        buffer = optimizer.state.get(p, {}).get("momentum_buffer")
        # buf ← μ buf + kept·(∇f + decay); the first step has no buffer and is not dampened.
        kept = 1.0 - group["dampening"] if buffer is not None else 1.0
        past = momentum * buffer if buffer is not None else torch.zeros_like(decay)
        if momentum == 0:
            rate, offset = 1.0, decay
        elif group["nesterov"]:
            rate, offset = 1.0 + momentum * kept, decay * (1.0 + momentum * kept) + momentum * past
        else:
            rate, offset = kept, kept * decay + past
        sign = -1.0 if group["maximize"] else 1.0
        rates.append(lr * rate * sign)
        offsets.append(lr * offset)
    return AffineStep(gradients, rates, offsets)


def _adam_with_state(
    gradients: BatchGradients, optimizer: Optimizer, groups: list[dict[str, Any]], early_epsilon: bool
) -> RowByRowStep:
    parameters = gradients.model.parameters
    always_decoupled = isinstance(optimizer, AdamW)

    def one(p: Tensor, group: dict[str, Any], gradient: Tensor) -> Tensor:
        decoupled = always_decoupled or group.get("decoupled_weight_decay", False)
        state = optimizer.state.get(p, {})
        beta1, beta2 = group["betas"]
        t = state["step"].double() + 1 if state else torch.ones((), dtype=torch.float64, device=p.device)
        zeros = torch.zeros_like(p)
        gradient = -gradient if group["maximize"] else gradient
        if not decoupled:
            gradient = gradient + group["weight_decay"] * p
        mean = beta1 * state.get("exp_avg", zeros) + (1 - beta1) * gradient
        square = beta2 * state.get("exp_avg_sq", zeros) + (1 - beta2) * gradient.square()
        correction = (1 - beta2**t).sqrt()
        if early_epsilon:
            scaled = mean * correction / (square.sqrt() + group["eps"])
        else:
            scaled = mean / (square.sqrt() / correction + group["eps"])
        step = -float(group["lr"]) / (1 - beta1**t) * scaled
        return step - float(group["lr"]) * group["weight_decay"] * p if decoupled else step

    def steps(gradient: list[Tensor]) -> list[Tensor]:
        return [one(p, g, d) for p, g, d in zip(parameters, groups, gradient, strict=True)]

    return RowByRowStep(gradients, steps)

"""The virtual step θ̂ = θ + Σ_i w_i δ_i and the derivative of a loss at θ̂ with respect to the weights.

δ_i is the step that the optimiser would take for row i alone. ∂θ̂/∂w_i = δ_i, so ∂L(θ̂)/∂w_i = δ_iᵀ∇L(θ̂).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from skreweight.core.exchange import LOCAL, Exchange
from skreweight.core.gram import pays, weight_gradient_by_rows
from skreweight.core.members import Parameters, inner, over
from skreweight.core.products import Products
from skreweight.core.shared_products import SharedProducts
from skreweight.core.signal_products import SignalProducts
from skreweight.core.validation_loss import ValidationLoss

VIRTUAL_STEPS = ("sgd", "optimizer", "optimizer-early-epsilon")


class VirtualStep(Protocol):
    """The steps δ_1 … δ_B of the rows of a batch."""

    def moved(self, weights: Tensor) -> list[Tensor]:
        """Return θ + Σ_i w_i δ_i; `weights` has shape (*M, B)."""
        ...

    def pull_back(self, gradient: Parameters) -> Tensor:
        """Return (δ_iᵀ∇)_i, shape (*M, B), for a gradient ∇ shaped like the parameters."""
        ...


class AffineStep:
    """δ_i = −(α∇f_i + β): plain gradient descent, and SGD with momentum and weight decay.

    Parameters
    ----------
    products : Products
    rates : list of float
        α for each parameter.
    offsets : list of torch.Tensor or None
        β for each parameter; None stands for zeros.
    exchange : Exchange
        Sums over the processes that share the batch; one process by default.
    """

    def __init__(
        self,
        products: Products,
        rates: list[float],
        offsets: list[Tensor] | None = None,
        *,
        exchange: Exchange = LOCAL,
    ) -> None:
        self.products, self._rates, self._offsets, self._exchange = products, rates, offsets, exchange
        # One rate for all: rows are scaled by it, which are fewer than parameters.
        self.common_rate = rates[0] if all(rate == rates[0] for rate in rates) else None

    @property
    def is_plain(self) -> bool:
        """Whether δ_i = −α∇f_i with one α for all parameters."""
        return self._offsets is None and self.common_rate is not None

    @torch.no_grad()
    def moved(self, weights: Tensor) -> list[Tensor]:
        """Return θ + Σ_i w_i δ_i."""
        if self.common_rate is not None:
            moved = self.products.weighted(weights * -self.common_rate)
        else:
            moved = list(torch._foreach_mul(self.products.weighted(weights), [-r for r in self._rates]))
        if self._offsets is not None:
            total = self._exchange.sum(weights.sum(-1, keepdim=True))
            moved = [m - over(total, o) * o for m, o in zip(moved, self._offsets, strict=True)]
        return list(torch._foreach_add(moved, [p.detach() for p in self.products.model.parameters]))

    @torch.no_grad()
    def pull_back(self, gradient: Parameters) -> Tensor:
        """Return (δ_iᵀ∇)_i."""
        if self.common_rate is not None:
            pulled = self.products.project(gradient) * -self.common_rate
        else:
            pulled = self.products.project(torch._foreach_mul(list(gradient), [-r for r in self._rates]))
        if self._offsets is None:
            return pulled
        return pulled - inner(self._offsets, gradient, self.products.model.n_lead)


class RowByRowStep:
    """Steps that are not affine in a row's gradient (Adam's): formed one row at a time, never stored.

    Parameters
    ----------
    products : Products
        Of the rows that are here alone: each process forms the steps of its own.
    step : callable (row gradient) -> step, both shaped like the parameters
    exchange : Exchange
        Sums over the processes that share the batch; one process by default.
    """

    def __init__(
        self,
        products: Products,
        step: Callable[[list[Tensor]], list[Tensor]],
        *,
        exchange: Exchange = LOCAL,
    ) -> None:
        self.products, self._step, self._exchange = products, step, exchange

    def _steps(self) -> Iterator[list[Tensor]]:
        losses = self.products.losses.detach()
        for unit in torch.eye(losses.shape[-1], dtype=losses.dtype, device=losses.device):
            yield self._step(self.products.weighted(unit.expand(losses.shape)))

    @torch.no_grad()
    def moved(self, weights: Tensor) -> list[Tensor]:
        """Return θ + Σ_i w_i δ_i."""
        base = [p.detach() for p in self.products.model.parameters]
        shared = self._exchange.is_shared
        moved = [torch.zeros_like(p) if shared else p.clone() for p in base]
        for weight, step in zip(weights.split(1, dim=-1), self._steps(), strict=True):
            moved = [m + over(weight, s) * s for m, s in zip(moved, step, strict=True)]
        if not shared:
            return moved
        return [p + m for p, m in zip(base, self._exchange.gradients(moved), strict=True)]

    @torch.no_grad()
    def pull_back(self, gradient: Parameters) -> Tensor:
        """Return (δ_iᵀ∇)_i."""
        n_lead = self.products.model.n_lead
        return torch.cat([inner(step, gradient, n_lead) for step in self._steps()], dim=-1)


def weight_gradient(
    step: VirtualStep, weights: Tensor, validation: ValidationLoss, batch_size: int | None = None
) -> Tensor:
    """Return ∂L_val(θ̂)/∂w at θ̂ = θ + Σ_i w_i δ_i, shape (*M, B).

    Parameters
    ----------
    step : VirtualStep
    weights : torch.Tensor of shape (*M, B)
    validation : ValidationLoss
    batch_size : int or None, default=None
        Rows that share a virtual step: θ̂ is formed from a share of the batch at a time. None: from all of it.
    """
    n_rows = weights.shape[-1]
    if batch_size is None or batch_size >= n_rows:
        if isinstance(step, AffineStep) and step.is_plain and pays(step.products, validation):
            assert step.common_rate is not None and isinstance(step.products, SignalProducts)
            return weight_gradient_by_rows(step.products, step.common_rate, weights, validation)
        _, gradient = validation.value_and_gradient(step.moved(weights))
        return step.pull_back(gradient)
    parts = []
    for start in range(0, n_rows, batch_size):
        rows = slice(start, start + batch_size)
        alone = torch.zeros_like(weights)
        alone[..., rows] = weights[..., rows]
        _, gradient = validation.value_and_gradient(step.moved(alone))
        parts.append(step.pull_back(gradient)[..., rows])
    return torch.cat(parts, dim=-1)


def virtual_step(
    kind: str, products: Products, optimizer: Optimizer, exchange: Exchange = LOCAL
) -> VirtualStep:
    """Return the steps δ_i of the rows of a batch.

    Parameters
    ----------
    kind : {"sgd", "optimizer", "optimizer-early-epsilon"}
        ``"sgd"``: δ_i = −lr·∇f_i. ``"optimizer"``: row i's whole step of the running optimiser.
        ``"optimizer-early-epsilon"``: the same with eps added to √v before Adam's bias correction.
    products : Products
    optimizer : torch.optim.Optimizer
    exchange : Exchange
        Sums over the processes that share the batch; one process by default.
    """
    if kind == "sgd":
        return sgd_step(products, optimizer)
    early = kind == "optimizer-early-epsilon"
    return optimizer_step(products, optimizer, early_epsilon=early, exchange=exchange)


def sgd_step(products: Products, optimizer: Optimizer) -> AffineStep:
    """Return δ_i = −lr·∇f_i with the optimiser's present learning rates."""
    return AffineStep(products, [float(group["lr"]) for group in _groups(products, optimizer)])


def optimizer_step(
    products: Products, optimizer: Optimizer, *, early_epsilon: bool = False, exchange: Exchange = LOCAL
) -> VirtualStep:
    """Return δ_i = the whole step of the running optimiser for row i alone, its state as it stands.

    Parameters
    ----------
    products : Products
    optimizer : torch.optim.SGD, Adam or AdamW
        Momentum, averages, weight decay and step counts are read, never written.
    early_epsilon : bool, default=False
        Adam only: add eps to √v before the bias correction, as torch did until version 1.2 and as the code
        of Hu et al. 2019 does. Today's torch divides √v by the correction first.
    exchange : Exchange
        Sums over the processes that share the batch; one process by default.

    Raises
    ------
    ValueError
        For any other optimiser.
    """
    groups = _groups(products, optimizer)
    if type(optimizer) is SGD:
        return _sgd_with_state(products, optimizer, groups, exchange)
    if type(optimizer) in (Adam, AdamW) and not any(g["amsgrad"] for g in groups):
        return _adam_with_state(products, optimizer, groups, early_epsilon, exchange)
    raise ValueError(
        f"virtual_step='optimizer' knows SGD, Adam and AdamW (without amsgrad), not {type(optimizer).__name__}: "
        "set virtual_step='sgd' or another optimizer."
    )


def awaits_averages(kind: str, optimizer: Optimizer) -> bool:
    """Whether steps of that kind are those of an Adam that has not taken one: its averages do not exist yet."""
    return kind != "sgd" and isinstance(optimizer, Adam | AdamW) and not optimizer.state


def _groups(products: Products, optimizer: Optimizer) -> list[dict[str, Any]]:
    """The optimiser's parameter group of each of the model's parameters."""
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    return [group_of[id(p)] for p in products.model.parameters]


def _sgd_with_state(
    products: Products, optimizer: Optimizer, groups: list[dict[str, Any]], exchange: Exchange
) -> AffineStep:
    rates, offsets = [], []
    for p, group in zip(products.model.parameters, groups, strict=True):
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
    return AffineStep(products, rates, offsets, exchange=exchange)


def _adam_with_state(
    products: Products,
    optimizer: Optimizer,
    groups: list[dict[str, Any]],
    early_epsilon: bool,
    exchange: Exchange,
) -> RowByRowStep:
    parameters = products.model.parameters
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

    own = products.share if isinstance(products, SharedProducts) else products
    return RowByRowStep(own, steps, exchange=exchange)

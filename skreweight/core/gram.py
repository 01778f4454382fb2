"""∂L_val(θ̂)/∂w of a plain gradient step, out of inner products between rows.

θ̂ = θ − α Σ_i w_i ∇f_i moves the weight of a linear layer by Σ_i c_i δ_i a_iᵀ, c_i = −α w_i, with row i's activation a_i
and signal δ_i. What the moved layer makes of a validation row with activation x̂ then needs no moved weight,

    Ŵ x̂ + b̂ = W x̂ + b + Σ_i c_i (a_iᵀx̂ + 1) δ_i,          εŴ = εW + Σ_i c_i (εᵀδ_i) a_i,

and neither does the product of row i's gradient with that of the validation row, Σ_layers (δ_iᵀε)(a_iᵀx̂ + 1). With m
validation rows that is B·m·(n_in + n_out) instead of B·n_in·n_out multiplications, several times over.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skreweight.core.chain import Chain, ChainPass
from skreweight.core.elementwise import Function
from skreweight.core.passes import Layer
from skreweight.core.signal_products import SignalProducts
from skreweight.core.validation_loss import ValidationLoss


def pays(products: Any, validation: ValidationLoss) -> bool:
    """Whether the rows are so few, and the network so plain, that inner products between rows are the shorter way."""
    chain = validation.chain
    if chain is None or validation.is_penalised or not isinstance(products, SignalProducts):
        return False
    recorded = products.recorded
    if not isinstance(recorded, ChainPass) or not _is_of_linear_layers(chain):
        return False
    m = validation.rows[1].shape[-1]
    sizes = [call.tensors["weight"].shape[-2:] for call in recorded.calls]
    # Two products of rows on the way there and two on the way back, against two products of layers.
    return sum(2 * m * (n_in + n_out) for n_out, n_in in sizes) < sum(
        2 * n_in * n_out for n_out, n_in in sizes
    )


def _is_of_linear_layers(chain: Chain) -> bool:
    return all(isinstance(link, Function) or type(link.module) is nn.Linear for link in chain.links
               if isinstance(link, Function | Layer))  # fmt: skip


@torch.no_grad()
def weight_gradient_by_rows(
    products: SignalProducts, rate: float, weights: Tensor, validation: ValidationLoss
) -> Tensor:
    """Return ∂L_val(θ̂)/∂w at θ̂ = θ − rate·F w, shape (*M, B).

    Parameters
    ----------
    products : SignalProducts
        Of the batch, from a chain.
    rate : float
        α.
    weights : torch.Tensor of shape (*M, B)
    validation : ValidationLoss
        Without a penalty, of a chain of linear layers and elementwise functions.
    """
    chain = validation.chain
    assert chain is not None
    value, targets = validation.rows
    slopes = products.slopes
    moves = weights * -rate if slopes is None else weights * (-rate * slopes)  # c
    calls = iter(zip(products.recorded.calls, products.signals, strict=True))
    trace: list[tuple[Any, ...]] = []
    for link in chain.links:
        if isinstance(link, Function):
            out = link.forward(value)
            trace.append((link, value, out))
            value = out
            continue
        assert isinstance(link, Layer)
        call, delta = next(calls)
        assert delta is not None
        gram = value @ call.activation.mT  # (*M, m, B)
        if "bias" in call.tensors:
            gram = gram + 1.0
        trace.append((link, call, delta, gram))
        plain = link.rule.forward(link.module, call.tensors, value)
        value = _added(plain, gram, delta * moves.unsqueeze(-1))
    cotangent, of_rows = validation.loss.start_of_signals(value, targets)
    share = cotangent.new_full(targets.shape, 1.0 / targets.shape[-1])
    if of_rows is not None:
        share = share * of_rows
    total: Tensor | None = None
    signal = cotangent
    for position in range(len(trace) - 1, -1, -1):
        link, *kept = trace[position]
        if isinstance(link, Function):
            signal = link.backward(signal, *kept)
            continue
        call, delta, gram = kept
        met = signal @ delta.mT  # (*M, m, B)
        part = (share.unsqueeze(-2) @ (met * gram)).squeeze(-2)
        total = part if total is None else total + part
        if position > 0:
            signal = _added(signal @ call.tensors["weight"], met * moves.unsqueeze(-2), call.activation)
    assert total is not None
    return total * -rate if slopes is None else total * (-rate * slopes)


def _added(plain: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return plain + first @ second in one operation."""
    return torch.addmm(plain, first, second) if plain.dim() == 2 else torch.baddbmm(plain, first, second)

"""Slow and obvious: everything materialised, one backward pass per row, output or parameter."""

from typing import Any

import torch
from torch import Tensor

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model

SEED = 7


def flat(tensors: Any) -> Tensor:
    """One vector of R^K."""
    return torch.cat([t.detach().reshape(-1) for t in tensors])


def like_parameters(vector: Tensor, model: Model) -> list[Tensor]:
    """A vector of R^K as a list of tensors shaped like the parameters."""
    parts = vector.split([p.numel() for p in model.parameters])
    return [part.view_as(p) for part, p in zip(parts, model.parameters, strict=True)]


def random_direction(model: Model, seed: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in model.parameters]


def forward(model: Model, x: Any, y: Tensor, loss: ExampleLoss) -> tuple[Tensor, Tensor]:
    """Outputs and losses from one plain call of the module, its random draws fixed."""
    torch.manual_seed(SEED)
    outputs = model.module(**x) if isinstance(x, dict) else model.module(x)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    return outputs, loss(outputs, y)


def gradient(value: Tensor, model: Model, *, graph: bool = False) -> Tensor:
    """∇ of a scalar as one vector of R^K."""
    parts = torch.autograd.grad(
        value,
        model.parameters,
        retain_graph=True,
        create_graph=graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return torch.cat([part.reshape(-1) for part in parts])


def row_gradients(model: Model, x: Any, y: Tensor, loss: ExampleLoss) -> Tensor:
    """F, shape (K, B)."""
    _, losses = forward(model, x, y, loss)
    return torch.stack([gradient(value, model) for value in losses], dim=1)


def jacobians(model: Model, x: Any, y: Tensor, loss: ExampleLoss) -> tuple[Tensor, Tensor]:
    """J of shape (B, C, K), and the Hessian of each row's loss in its outputs, (B, C, C)."""
    outputs, _ = forward(model, x, y, loss)
    rows = outputs.reshape(len(y), -1)
    J = torch.stack([torch.stack([gradient(z, model) for z in row]) for row in rows])
    hessians = []
    for row, target in zip(outputs.detach(), y, strict=True):
        row_loss = lambda z, t=target: loss(z[None], t[None])[0]  # noqa: E731
        hessian = torch.autograd.functional.hessian(row_loss, row)
        hessians.append(hessian.reshape(rows.shape[1], rows.shape[1]))
    return J, torch.stack(hessians)


def gauss_newton_diagonal(model: Model, x: Any, y: Tensor, loss: ExampleLoss, w: Tensor) -> Tensor:
    """diag Σ_i w_i J_iᵀ H_i J_i with the negative eigenvalues of H_i set to zero."""
    J, H = jacobians(model, x, y, loss)
    values, vectors = torch.linalg.eigh(H)
    H = vectors @ torch.diag_embed(values.clamp(min=0)) @ vectors.mT
    return torch.einsum("b,bck,bcd,bdk->k", w, J, H, J)


def hessian(model: Model, x: Any, y: Tensor, loss: ExampleLoss, w: Tensor) -> Tensor:
    """The K×K Hessian of Σ_i w_i f_i."""
    _, losses = forward(model, x, y, loss)
    first = gradient(losses @ w, model, graph=True)
    return torch.stack([gradient(g, model) if g.requires_grad else torch.zeros_like(first) for g in first])


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest deviation, relative to the largest entry."""
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))

"""Layers that are linear in their parameters: all products from one pass's activations and signals.

For such a layer z = θ·a the gradient of row i is the product of its activation a_i and its backpropagated
signal δ_i = ∂f_i/∂z_i. Each rule says how that product looks: ``gradient`` sums it over the rows;
with ``forward``, the layer's output at other parameters v, its inner product with v is Σ forward(a, v)∘δ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Direction = dict[str, Tensor]


@dataclass(frozen=True)
class LayerRule:
    """How one kind of layer turns activations and signals into gradients.

    ``gradient(layer, a, delta, w)`` returns Σ_i w_i ∇f_i for each parameter, w None for ones;
    ``forward(layer, a, v)`` the layer's output at parameters v (a missing one counts as 0), so that
    Fᵀv = Σ forward(a, v)∘δ over all but the rows.
    ``squares(layer, a, squared_delta, w)`` returns Σ_i w_i (∇f_i)² from the squares of the signals (of several
    losses a row, their sum), or None where there is no closed form.
    """

    gradient: Callable[[nn.Module, Tensor, Tensor, Tensor | None], Direction]
    forward: Callable[[nn.Module, Tensor, Direction], Tensor]
    squares: Callable[[nn.Module, Tensor, Tensor, Tensor], Direction | None] = lambda *_: None


def scaled_rows(tensor: Tensor, w: Tensor | None) -> Tensor:
    """Return the tensor with each row (first dimension) times its weight."""
    if w is None:
        return tensor
    return tensor * (w.unsqueeze(1) if tensor.dim() == 2 else w.view(-1, *[1] * (tensor.dim() - 1)))


def _linear_gradient(layer: nn.Module, a: Tensor, delta: Tensor, w: Tensor | None) -> Direction:
    scaled = scaled_rows(delta, w)
    if delta.dim() != 2:
        scaled, a = scaled.reshape(-1, delta.shape[-1]), a.reshape(-1, a.shape[-1])
    grads = {"weight": torch.mm(scaled.t(), a)}
    if layer.bias is not None:
        grads["bias"] = scaled.sum(0)
    return grads


def _linear_forward(layer: nn.Module, a: Tensor, v: Direction) -> Tensor:
    if "weight" in v:
        return F.linear(a, v["weight"], v.get("bias"))
    return v["bias"].expand(*a.shape[:-1], -1)


def _linear_squares(layer: nn.Module, a: Tensor, squared: Tensor, w: Tensor) -> Direction | None:
    if a.dim() != 2:  # a row used at several positions: its gradient is a sum, whose square does not factor
        return None
    scaled = scaled_rows(squared, w)
    grads = {"weight": torch.mm(scaled.t(), a.square())}
    if layer.bias is not None:
        grads["bias"] = scaled.sum(0)
    return grads


def _conv_gradient(layer: nn.Module, a: Tensor, delta: Tensor, w: Tensor | None) -> Direction:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    dims = len(layer.kernel_size)
    bias_sizes = None if layer.bias is None else [layer.out_channels]
    _, weight, bias = torch.ops.aten.convolution_backward(
        scaled_rows(delta, w), a, layer.weight, bias_sizes, layer.stride, _padding(layer), layer.dilation,
        False, [0] * dims, layer.groups, [False, True, bias_sizes is not None],
    )  # fmt: skip
    return {"weight": weight} if bias_sizes is None else {"weight": weight, "bias": bias}


def _conv_forward(layer: nn.Module, a: Tensor, v: Direction) -> Tensor:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    weight = v.get("weight", torch.zeros_like(layer.weight))
    return torch.convolution(
        a, weight, v.get("bias"), layer.stride, _padding(layer), layer.dilation,
        False, [0] * len(layer.kernel_size), layer.groups,
    )  # fmt: skip


def _padding(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[int]:
    if layer.padding == "valid":
        return [0] * len(layer.kernel_size)
    if layer.padding == "same":
        return [d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return [int(p) for p in layer.padding]


def _embedding_gradient(layer: nn.Module, a: Tensor, delta: Tensor, w: Tensor | None) -> Direction:
    assert isinstance(layer, nn.Embedding)
    delta = scaled_rows(delta, w).reshape(-1, layer.embedding_dim)
    index = a.reshape(-1)
    if layer.padding_idx is not None:
        delta = delta * (index != layer.padding_idx).unsqueeze(1)
    zero = torch.zeros(layer.num_embeddings, layer.embedding_dim, dtype=delta.dtype, device=delta.device)
    return {"weight": zero.index_add(0, index, delta)}


def _embedding_forward(layer: nn.Module, a: Tensor, v: Direction) -> Tensor:
    assert isinstance(layer, nn.Embedding)
    out = F.embedding(a, v["weight"])
    return out if layer.padding_idx is None else out * (a != layer.padding_idx).unsqueeze(-1)


def _layer_norm_input(layer: nn.Module, a: Tensor) -> Tensor:
    assert isinstance(layer, nn.LayerNorm)
    return F.layer_norm(a, layer.normalized_shape, eps=layer.eps)


def _layer_norm_gradient(layer: nn.Module, a: Tensor, delta: Tensor, w: Tensor | None) -> Direction:
    assert isinstance(layer, nn.LayerNorm)
    delta = scaled_rows(delta, w)
    lead = list(range(a.dim() - len(layer.normalized_shape)))
    grads = {"weight": (delta * _layer_norm_input(layer, a)).sum(lead)}
    if layer.bias is not None:
        grads["bias"] = delta.sum(lead)
    return grads


def _layer_norm_forward(layer: nn.Module, a: Tensor, v: Direction) -> Tensor:
    out = _layer_norm_input(layer, a) * v["weight"] if "weight" in v else torch.zeros_like(a)
    return out + v["bias"] if "bias" in v else out


def _channel_norm_input(layer: nn.Module, a: Tensor) -> Tensor:
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(a, layer.num_groups, eps=layer.eps)
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    return F.batch_norm(a, layer.running_mean, layer.running_var, eps=layer.eps)


def _channel_norm_gradient(layer: nn.Module, a: Tensor, delta: Tensor, w: Tensor | None) -> Direction:
    delta = scaled_rows(delta, w)
    others = [d for d in range(a.dim()) if d != 1]
    return {"weight": (delta * _channel_norm_input(layer, a)).sum(others), "bias": delta.sum(others)}


def _channel_norm_forward(layer: nn.Module, a: Tensor, v: Direction) -> Tensor:
    shape = (1, -1) + (1,) * (a.dim() - 2)
    out = _channel_norm_input(layer, a) * v["weight"].view(shape) if "weight" in v else torch.zeros_like(a)
    return out + v["bias"].view(shape) if "bias" in v else out


_LINEAR = LayerRule(_linear_gradient, _linear_forward, _linear_squares)
_CONV = LayerRule(_conv_gradient, _conv_forward)
_EMBEDDING = LayerRule(_embedding_gradient, _embedding_forward)
_LAYER_NORM = LayerRule(_layer_norm_gradient, _layer_norm_forward)
_CHANNEL_NORM = LayerRule(_channel_norm_gradient, _channel_norm_forward)

_RULES: dict[type[nn.Module], LayerRule] = {
    nn.Linear: _LINEAR,
    nn.Conv1d: _CONV,
    nn.Conv2d: _CONV,
    nn.Conv3d: _CONV,
    nn.Embedding: _EMBEDDING,
    nn.LayerNorm: _LAYER_NORM,
    nn.GroupNorm: _CHANNEL_NORM,
    nn.BatchNorm1d: _CHANNEL_NORM,
    nn.BatchNorm2d: _CHANNEL_NORM,
    nn.BatchNorm3d: _CHANNEL_NORM,
}


def rule_for(layer: nn.Module) -> LayerRule | None:
    """Return the rule of a layer, or None where it has none (the exact class counts, not a subclass)."""
    rule = _RULES.get(type(layer))
    if rule is _CHANNEL_NORM and not isinstance(layer, nn.GroupNorm):
        # In training mode the statistics of a batch make every row's loss depend on every other row.
        frozen = not layer.training and getattr(layer, "running_mean", None) is not None
        return rule if frozen else None
    if rule is _CONV and (layer.padding_mode != "zeros" or _uneven_same(layer)):
        return None
    if rule is _EMBEDDING and (layer.max_norm is not None or layer.sparse or layer.scale_grad_by_freq):
        return None
    return rule


def _uneven_same(layer: nn.Module) -> bool:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    spans = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return layer.padding == "same" and any(span % 2 for span in spans)


def rows_at_once(parameter: Tensor) -> int:
    """How many rows' gradients of a parameter may stand in memory at once (about 16 MB of float32)."""
    return max(1, 2**22 // math.prod(parameter.shape))

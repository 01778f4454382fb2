"""Layers that are linear in their parameters: all products from one pass's activations and signals.

For such a layer z = θ·a the gradient of row i is the product of its activation a_i and its backpropagated
signal δ_i = ∂f_i/∂z_i. Each rule says how that product looks: ``gradient`` sums it over the rows;
with ``forward``, the layer's output at other parameters v, its inner product with v is Σ forward(a, v)∘δ.

A layer of a class outside torch brings its rule along as the class attribute ``layer_rule``.
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

    Activations a and signals δ have shape (*M, B, ...); θ holds the layer's own tensors, (*M, ...) each.

    Attributes
    ----------
    gradient : callable (layer, θ, a, δ, w) -> dict
        Σ_i w_i ∇f_i for each parameter; w of shape (*M, B), or None in chains for ones.
    forward : callable (layer, θ, a) -> torch.Tensor
        The layer's output at tensors θ (a missing one counts as 0), in memory of its own.
    project : callable (layer, θ, a, δ, v) -> torch.Tensor of shape (*M, B), or None
        Row by row, the inner product of its gradient with v; None: Σ forward(v, a)∘δ, as it is where the layer is
        linear in its parameters.
    squares : callable (layer, θ, a, squared_δ, w) -> dict or None
        Σ_i w_i (∇f_i)² from the squares of the signals (of several losses a row, their sum); None, or a result of
        None, where there is no closed form.
    backward : callable (layer, θ, a, δ) -> torch.Tensor, or None
        The signal at the layer's input, for chains; None: it can only stand at the start of one.
    members : bool, default=False
        Whether the rule holds for leading axes.
    """

    gradient: Callable[[nn.Module, Direction, Tensor, Tensor, Tensor | None], Direction]
    forward: Callable[[nn.Module, Direction, Tensor], Tensor]
    project: Callable[[nn.Module, Direction, Tensor, Tensor, Direction], Tensor] | None = None
    squares: Callable[[nn.Module, Direction, Tensor, Tensor, Tensor], Direction | None] | None = None
    backward: Callable[[nn.Module, Direction, Tensor, Tensor], Tensor] | None = None
    members: bool = False


def scaled_rows(tensor: Tensor, w: Tensor | None) -> Tensor:
    """Return a tensor (*M, B, ...) with each row times its weight (*M, B); None: as it is."""
    if w is None:
        return tensor
    missing = tensor.dim() - w.dim()
    return tensor * (w.unsqueeze(-1) if missing == 1 else w.view(*w.shape, *[1] * missing))


def affine(a: Tensor, weight: Tensor, bias: Tensor | None, alpha: float = 1.0) -> Tensor:
    """Return alpha·a Wᵀ + b of a (*M, B, ..., I), W (*M, O, I) and b (*M, O); (B, I) serves all members."""
    if weight.dim() == 2 and alpha == 1.0:
        return F.linear(a, weight, bias)
    if bias is not None and a.dim() == weight.dim() == 2:
        return torch.addmm(bias, a, weight.t(), alpha=alpha)
    if bias is not None and a.dim() == weight.dim() == 3:
        return torch.baddbmm(bias.unsqueeze(-2), a, weight.mT, alpha=alpha)
    out = a @ (weight.mT if alpha == 1.0 else weight.mT * alpha)
    return out if bias is None else out + bias.unsqueeze(-2)


def outer_sum(delta: Tensor, a: Tensor) -> Tensor:
    """Return Σ_i δ_i a_iᵀ, (*M, O, I)."""
    return torch.mm(delta.t(), a) if delta.dim() == 2 else product(delta.mT, a)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b; of two stacks of matrices without the views that ``@`` makes of each."""
    return torch.bmm(a, b) if a.dim() == b.dim() == 3 and len(a) == len(b) else a @ b


def _linear_gradient(
    layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None
) -> Direction:
    scaled = scaled_rows(delta, w)
    if w is not None and delta.dim() > w.dim() + 1:  # rows used at several positions
        scaled, a = scaled.flatten(w.dim() - 1, -2), a.flatten(w.dim() - 1, -2)
    grads = {"weight": outer_sum(scaled, a)}
    if layer.bias is not None:
        grads["bias"] = scaled.sum(-2)
    return grads


def _linear_forward(layer: nn.Module, theta: Direction, a: Tensor) -> Tensor:
    if "weight" in theta:
        return affine(a, theta["weight"], theta.get("bias"))
    return theta["bias"].expand(*a.shape[:-1], -1).clone()


def _linear_squares(
    layer: nn.Module, theta: Direction, a: Tensor, squared: Tensor, w: Tensor
) -> Direction | None:
    if (
        a.dim() > w.dim() + 1
    ):  # a row used at several positions: its gradient is a sum, whose square does not factor
        return None
    scaled = scaled_rows(squared, w)
    grads = {"weight": outer_sum(scaled, a.square())}
    if layer.bias is not None:
        grads["bias"] = scaled.sum(-2)
    return grads


def _linear_backward(layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor) -> Tensor:
    return product(delta, theta["weight"])


def _conv_gradient(
    layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None
) -> Direction:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    dims = len(layer.kernel_size)
    bias_sizes = None if layer.bias is None else [layer.out_channels]
    _, weight, bias = torch.ops.aten.convolution_backward(
        scaled_rows(delta, w), a, theta["weight"], bias_sizes, layer.stride, _padding(layer), layer.dilation,
        False, [0] * dims, layer.groups, [False, True, bias_sizes is not None],
    )  # fmt: skip
    return {"weight": weight} if bias_sizes is None else {"weight": weight, "bias": bias}


def _conv_forward(layer: nn.Module, v: Direction, a: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    weight = v.get("weight", a.new_zeros(layer.weight.shape))
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


def _embedding_gradient(
    layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None
) -> Direction:
    assert isinstance(layer, nn.Embedding)
    delta = scaled_rows(delta, w).reshape(-1, layer.embedding_dim)
    index = a.reshape(-1)
    if layer.padding_idx is not None:
        delta = delta * (index != layer.padding_idx).unsqueeze(1)
    zero = torch.zeros(layer.num_embeddings, layer.embedding_dim, dtype=delta.dtype, device=delta.device)
    return {"weight": zero.index_add(0, index, delta)}


def _embedding_forward(layer: nn.Module, v: Direction, a: Tensor) -> Tensor:
    assert isinstance(layer, nn.Embedding)
    out = F.embedding(a, v["weight"])
    return out if layer.padding_idx is None else out * (a != layer.padding_idx).unsqueeze(-1)


def _layer_norm_input(layer: nn.Module, a: Tensor) -> Tensor:
    assert isinstance(layer, nn.LayerNorm)
    return F.layer_norm(a, layer.normalized_shape, eps=layer.eps)


def _layer_norm_gradient(
    layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None
) -> Direction:
    assert isinstance(layer, nn.LayerNorm)
    delta = scaled_rows(delta, w)
    lead = list(range(a.dim() - len(layer.normalized_shape)))
    grads = {"weight": (delta * _layer_norm_input(layer, a)).sum(lead)}
    if layer.bias is not None:
        grads["bias"] = delta.sum(lead)
    return grads


def _layer_norm_forward(layer: nn.Module, v: Direction, a: Tensor) -> Tensor:
    out = _layer_norm_input(layer, a) * v["weight"] if "weight" in v else torch.zeros_like(a)
    return out + v["bias"] if "bias" in v else out


def _channel_norm_input(layer: nn.Module, theta: Direction, a: Tensor) -> Tensor:
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(a, layer.num_groups, eps=layer.eps)
    assert isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    return F.batch_norm(a, theta["running_mean"], theta["running_var"], eps=layer.eps)


def _channel_norm_gradient(
    layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None
) -> Direction:
    delta = scaled_rows(delta, w)
    others = [d for d in range(a.dim()) if d != 1]
    return {"weight": (delta * _channel_norm_input(layer, theta, a)).sum(others), "bias": delta.sum(others)}


def _channel_norm_forward(layer: nn.Module, v: Direction, a: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (a.dim() - 2)
    out = _channel_norm_input(layer, v, a) * v["weight"].view(shape) if "weight" in v else torch.zeros_like(a)
    return out + v["bias"].view(shape) if "bias" in v else out


_LINEAR = LayerRule(
    _linear_gradient, _linear_forward, squares=_linear_squares, backward=_linear_backward, members=True
)
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
    rule: LayerRule | None = _RULES.get(type(layer)) or vars(type(layer)).get("layer_rule")
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


def at_once(rule: LayerRule) -> LayerRule:
    """Return the rule for K networks at once: as it is, or member by member through `torch.func.vmap`."""
    if rule.members:
        return rule

    def gradient(layer: nn.Module, theta: Direction, a: Tensor, delta: Tensor, w: Tensor | None) -> Direction:
        return torch.func.vmap(lambda *of_one: rule.gradient(layer, *of_one))(theta, a, delta, w)

    def forward(layer: nn.Module, theta: Direction, a: Tensor) -> Tensor:
        return torch.func.vmap(lambda *of_one: rule.forward(layer, *of_one))(theta, a)

    return LayerRule(gradient, forward)


def rows_at_once(parameter: Tensor) -> int:
    """How many rows' gradients of a parameter may stand in memory at once (about 16 MB of float32)."""
    return max(1, 2**22 // math.prod(parameter.shape))

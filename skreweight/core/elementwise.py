"""Elementwise functions with the derivative that autograd would use, called directly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_aten = torch.ops.aten
# The constants of torch's selu, in float64.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@dataclass(frozen=True)
class Function:
    """An elementwise function: ``backward(gradient, input, output)``.

    ``forward_`` and ``backward_(gradient, output)`` write into what they are given, which saves the system the
    clearing of new memory; they are there for functions whose derivative follows from the output alone.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], Tensor]
    forward_: Callable[[Tensor], Tensor] | None = None
    backward_: Callable[[Tensor, Tensor], Tensor] | None = None


def function_of(module: nn.Module) -> Function | None:
    """Return the elementwise function that a module is, if it is one that is known here."""
    if type(module) is nn.LeakyReLU:
        slope = module.negative_slope
        return Function(
            lambda z: F.leaky_relu(z, slope), lambda g, z, out: _aten.leaky_relu_backward(g, z, slope, False)
        )
    if type(module) is nn.GELU:
        kind = module.approximate
        return Function(
            lambda z: F.gelu(z, approximate=kind),
            lambda g, z, out: _aten.gelu_backward(g, z, approximate=kind),
        )
    if type(module) is nn.ELU:
        alpha = module.alpha
        return Function(
            lambda z: F.elu(z, alpha), lambda g, z, out: _aten.elu_backward(g, alpha, 1.0, 1.0, False, z)
        )
    return _FUNCTIONS.get(type(module))


_FUNCTIONS: dict[type[nn.Module], Function] = {
    nn.ReLU: Function(
        torch.relu,
        lambda g, z, out: _aten.threshold_backward(g, out, 0),
        torch.relu_,
        lambda g, out: _aten.threshold_backward.grad_input(g, out, 0, grad_input=g),
    ),
    nn.Tanh: Function(
        torch.tanh,
        lambda g, z, out: _aten.tanh_backward(g, out),
        torch.tanh_,
        lambda g, out: _aten.tanh_backward.grad_input(g, out, grad_input=g),
    ),
    nn.Sigmoid: Function(
        torch.sigmoid,
        lambda g, z, out: _aten.sigmoid_backward(g, out),
        torch.sigmoid_,
        lambda g, out: _aten.sigmoid_backward.grad_input(g, out, grad_input=g),
    ),
    nn.SiLU: Function(F.silu, lambda g, z, out: _aten.silu_backward(g, z)),
    nn.Mish: Function(F.mish, lambda g, z, out: _aten.mish_backward(g, z)),
    nn.SELU: Function(
        torch.selu, lambda g, z, out: _aten.elu_backward(g, _SELU_ALPHA, _SELU_SCALE, 1.0, False, z)
    ),
}

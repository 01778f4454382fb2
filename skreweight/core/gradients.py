"""F w and Fᵀv of a mini-batch for any module, by autograd and forward-mode differentiation."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model, Parameters


class BatchGradients(Protocol):
    """The gradients of a mini-batch's losses, as products only.

    Attributes
    ----------
    outputs : torch.Tensor of shape (B, C)
        Outputs of the module, with their graph.
    losses : torch.Tensor of shape (B,)
        f_i(θ), with their graph.
    loss : ExampleLoss
        What the losses are of the outputs.
    exact_squares : bool
        Whether `squares` is exact rather than an unbiased estimate.
    """

    model: Model
    outputs: Tensor
    loss: ExampleLoss
    exact_squares: bool

    @property
    def losses(self) -> Tensor:
        """f_i(θ)."""
        ...

    def losses_with_graph(self) -> Tensor:
        """Return f_i(θ) with a graph that leads to the parameters, shape (B,)."""
        ...

    def weighted(self, weights: Tensor) -> list[Tensor]:
        """Return F w = Σ_i w_i ∇f_i, shaped like the parameters; `weights` has shape (B,)."""
        ...

    def project(self, direction: Parameters) -> Tensor:
        """Return Fᵀv, shape (B,); `direction` is shaped like the parameters."""
        ...

    def squares(self, cotangents: Tensor, weights: Tensor) -> list[Tensor]:
        """Return Σ_r Σ_i w_i (J_iᵀ c_ri)², J_i the Jacobian of row i's outputs.

        `cotangents` has shape (R, B, C), `weights` (B,) and no negative entry.
        """
        ...

    def gauss_newton(self, weights: Tensor) -> list[Tensor]:
        """Return the diagonal of Σ_i w_i J_iᵀ (∂²f_i/∂z²) J_i, shaped like the parameters."""
        ...

    def fisher(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_i w_i (∇f_i)², shaped like the parameters."""
        ...


class GraphGradients:
    """Products of one forward pass's gradients, for any differentiable module.

    F w is one backward pass through the graph. Fᵀv is one forward-mode pass that replays the random state of
    the forward pass (dropout draws the same masks) on copies of the buffers; where an operation has no
    forward-mode formula, it is the derivative of w ↦ vᵀF w, by double backward. ``squares`` is an unbiased
    estimate from random signs, exact only in expectation: a row's own gradient is never formed.

    Parameters
    ----------
    model : Model
    x, targets : batch
    loss : ExampleLoss
    forward_mode : bool, default=True
        Whether Fᵀv is a forward-mode product; otherwise a double backward pass.
    """

    exact_squares = False

    def __init__(
        self, model: Model, x: Any, targets: Any, loss: ExampleLoss, *, forward_mode: bool = True
    ) -> None:
        self.model = model
        self._x, self.targets = x, targets
        self.loss = loss
        self._forward_mode = forward_mode
        self._random_state = random_state_of(model.parameters) if forward_mode else None
        self._training = model.training
        with sdpa_kernel(SDPBackend.MATH):  # the fast attentions cannot be differentiated a second time
            self.outputs = model(x)
        self._losses = loss(self.outputs, targets)

    @property
    def losses(self) -> Tensor:
        """f_i(θ) with their graph, shape (B,)."""
        return self._losses

    def losses_with_graph(self) -> Tensor:
        """Return f_i(θ) with a graph that leads to the parameters, shape (B,)."""
        return self._losses

    def weighted(self, weights: Tensor) -> list[Tensor]:
        """Return F w."""
        return vector_jacobian(self.losses, self.model.parameters, weights)

    def project(self, direction: Parameters) -> Tensor:
        """Return Fᵀv."""
        if not self._forward_mode:
            return self._project_by_double_backward(direction)
        names = self.model.names

        def losses_at(parameters: dict[str, Tensor]) -> Tensor:
            return self.loss(self.model.functional(parameters, self._x), self.targets)

        primals = {n: p.detach() for n, p in zip(names, self.model.parameters, strict=True)}
        tangents = {n: v.detach() for n, v in zip(names, direction, strict=True)}
        devices = sorted({p.device.index or 0 for p in self.model.parameters if p.is_cuda})
        replayed = self.model.in_mode(self._training)  # which may have changed since the forward pass
        with torch.random.fork_rng(devices), replayed, sdpa_kernel(SDPBackend.MATH):
            set_random_state(self._random_state)
            return torch.func.jvp(losses_at, (primals,), (tangents,))[1]

    def _project_by_double_backward(self, direction: Parameters) -> Tensor:
        weights = torch.zeros_like(self.losses, requires_grad=True)
        with torch.enable_grad():
            combined = torch.autograd.grad(
                self.losses, self.model.parameters, weights, create_graph=True, allow_unused=True
            )
            inner = sum(
                ((g * v).sum() for g, v in zip(combined, direction, strict=True) if g is not None),
                start=self.losses.new_zeros(()),
            )
            return torch.autograd.grad(inner, weights)[0]

    def gauss_newton(self, weights: Tensor) -> list[Tensor]:
        """Return an estimate of the diagonal of Σ_i w_i J_iᵀ (∂²f_i/∂z²) J_i."""
        return self.squares(self.loss.hessian_factor(self.outputs, self.targets), weights)

    def fisher(self, weights: Tensor) -> list[Tensor]:
        """Return an estimate of Σ_i w_i (∇f_i)²."""
        (cotangent,) = torch.autograd.grad(self.losses.sum(), self.outputs, retain_graph=True)
        return self.squares(cotangent.unsqueeze(0), weights)

    def squares(self, cotangents: Tensor, weights: Tensor) -> list[Tensor]:
        """Return an unbiased estimate of the weighted sum of squares."""
        one_a_row = (*cotangents.shape[:2], *[1] * (cotangents.dim() - 2))
        signs = cotangents.new_empty(one_a_row).bernoulli_(0.5).mul_(2).sub_(1)
        scaled = weights.sqrt().view(1, *one_a_row[1:])
        mixed = (cotangents * scaled * signs).sum(0)
        return [g.square() for g in vector_jacobian(self.outputs, self.model.parameters, mixed)]


def vector_jacobian(outputs: Tensor, parameters: Parameters, cotangent: Tensor) -> list[Tensor]:
    """Return Jᵀc, shaped like the parameters; zeros where a parameter plays no part. The graph is kept."""
    grads = torch.autograd.grad(outputs, parameters, cotangent, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)]


def random_state_of(parameters: Parameters) -> dict[str, Tensor]:
    """Return the generator states that a forward pass on these parameters draws from."""
    states = {"cpu": torch.get_rng_state()}
    for device in {p.device for p in parameters if p.is_cuda}:
        states[str(device)] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, Tensor] | None) -> None:
    """Put the generators back to states that `random_state_of` returned."""
    for device, state in (states or {}).items():
        if device == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available():
            torch.cuda.set_rng_state(state, device)

"""F w and Fᵀv of a mini-batch for any module, by autograd and forward-mode differentiation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.members import Parameters, inner
from skreweight.core.model import Model
from skreweight.core.random_state import alone, random_state_of, set_random_state


class GraphProducts:
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
        self, model: Model, x: Any, targets: Tensor, loss: ExampleLoss, *, forward_mode: bool = True
    ) -> None:
        self.model = model
        self._x, self.targets = x, targets
        self.loss = loss
        self._forward_mode = forward_mode
        self._random_state = random_state_of(model.parameters) if forward_mode else None
        with sdpa_kernel(SDPBackend.MATH):  # the fast attentions cannot be differentiated a second time
            self.outputs = model(x)
        self._losses = loss(self.outputs, targets)

    @property
    def losses(self) -> Tensor:
        """f_i(θ) with their graph, shape (*M, B)."""
        return self._losses

    def losses_with_graph(self) -> Tensor:
        """Return f_i(θ) with a graph that leads to the parameters, shape (*M, B)."""
        return self._losses

    def weighted(self, weights: Tensor) -> list[Tensor]:
        """Return F w."""
        return vector_jacobian(self.losses, self.model.parameters, weights)

    def once(self, weights: Tensor) -> list[Tensor]:
        """Return F w."""
        return self.weighted(weights)

    def project(self, direction: Parameters) -> Tensor:
        """Return Fᵀv."""
        if not self._forward_mode:
            return self._project_by_double_backward(direction)
        names = self.model.names

        def losses_at(parameters: dict[str, Tensor]) -> Tensor:
            return self.loss(self.model.replayed(parameters, self._x), self.targets)

        primals = {n: p.detach() for n, p in zip(names, self.model.parameters, strict=True)}
        tangents = {n: v.detach() for n, v in zip(names, direction, strict=True)}
        devices = sorted({p.device.index or 0 for p in self.model.parameters if p.is_cuda})
        # Levels of forward-mode differentiation are counted once for all threads.
        with alone(), torch.random.fork_rng(devices), sdpa_kernel(SDPBackend.MATH):
            set_random_state(self._random_state)
            return torch.func.jvp(losses_at, (primals,), (tangents,))[1]

    def _project_by_double_backward(self, direction: Parameters) -> Tensor:
        weights = torch.zeros_like(self.losses, requires_grad=True)
        with torch.enable_grad():
            combined = torch.autograd.grad(
                self.losses, self.model.parameters, weights, create_graph=True, allow_unused=True
            )
            product = sum(
                ((g * v).sum() for g, v in zip(combined, direction, strict=True) if g is not None),
                start=self.losses.new_zeros(()),
            )
            return torch.autograd.grad(product, weights)[0]

    def gauss_newton(self, weights: Tensor) -> list[Tensor]:
        """Return an estimate of the diagonal of Σ_i w_i J_iᵀ (∂²f_i/∂z²) J_i."""
        return self.squares(self.loss.hessian_factor(self.outputs, self.targets), weights)

    def fisher(self, weights: Tensor) -> list[Tensor]:
        """Return an estimate of Σ_i w_i (∇f_i)²."""
        return self.squares(self.loss_cotangents(), weights)

    def squares(self, cotangents: Tensor, weights: Tensor) -> list[Tensor]:
        """Return an unbiased estimate of the weighted sum of squares."""
        one_a_row: Any = (..., *[0] * (cotangents.dim() - 1 - weights.dim()))
        n_lead = self.model.n_lead
        signs = self.model.draws.signs(cotangents[one_a_row].movedim(0, n_lead)).movedim(n_lead, 0)
        return [g.square() for g in self.mixed(cotangents, weights, signs)]

    def mixed(self, cotangents: Tensor, weights: Tensor, signs: Tensor) -> list[Tensor]:
        """Return Σ_r Σ_i s_ri √w_i J_iᵀ c_ri, the signs s of shape (R, *M, B)."""
        scaled = signs * weights.sqrt()
        mixed = (cotangents * scaled.view(*scaled.shape, *[1] * (cotangents.dim() - scaled.dim()))).sum(0)
        return vector_jacobian(self.outputs, self.model.parameters, mixed)

    def loss_cotangents(self) -> Tensor:
        """Return ∂f_i/∂z_i, shape (1, *M, B, C)."""
        (cotangent,) = torch.autograd.grad(self.losses.sum(), self.outputs, retain_graph=True)
        return cotangent.unsqueeze(0)


def vector_jacobian(outputs: Tensor, parameters: Parameters, cotangent: Tensor) -> list[Tensor]:
    """Return Jᵀc, shaped like the parameters; zeros where a parameter plays no part. The graph is kept."""
    grads = torch.autograd.grad(outputs, parameters, cotangent, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)]


def has_forward_mode(model: Model, x: Any, targets: Tensor, loss: ExampleLoss) -> bool:
    """Whether forward-mode products exist for every operation and agree with backward passes, on a few rows."""
    with model.untouched():
        products = GraphProducts(model, x, targets, loss, forward_mode=True)
        weights = torch.linspace(-1.0, 2.0, targets.shape[-1]).to(products.losses).expand(targets.shape)
        direction = [torch.randn_like(p) for p in model.parameters]
        try:
            forward = (products.project(direction) * weights).sum(-1, keepdim=True)
        except (RuntimeError, NotImplementedError, ValueError, TypeError):
            return False
        backward = inner(products.weighted(weights), direction, model.n_lead)
        tolerance = torch.finfo(forward.dtype).eps ** 0.5
        return bool(((forward - backward).abs() <= tolerance * (1 + backward.abs())).all())

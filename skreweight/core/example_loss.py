"""Per-example losses of a criterion, and the curvature they have in the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Line(NamedTuple):
    """Losses that depend on the outputs through t = direction·z alone.

    ``direction`` is ∂t/∂z of shape (*M, B, C); ``slope`` f'(t) and ``positive``, the probability σ(t), have shape
    (*M, B), ``scale`` too, the factor on the loss (None for 1).
    """

    direction: Tensor
    slope: Tensor
    positive: Tensor
    scale: Tensor | None

    @property
    def curvature(self) -> Tensor:
        """f''(t) = σ(t) σ(−t), shape (*M, B)."""
        plain = self.positive * (1.0 - self.positive)
        return plain if self.scale is None else plain * self.scale


class ExampleLoss:
    """f_i = c_y · criterion(output_i, y_i), one figure per row.

    Parameters
    ----------
    criterion : torch.nn.Module, or sequence of K such
        Called as ``criterion(outputs, targets)``; must return one loss per row. K criteria that agree in all they
        hold count as one; others (class counts that differ by member) are called one after another.
    class_scale : torch.Tensor of shape (*M, C) or None, default=None
        Class weight c by which a row's loss is multiplied.

    Attributes
    ----------
    parameters : list of torch.Tensor
        What the criteria learn themselves.
    """

    def __init__(self, criterion: nn.Module | Sequence[nn.Module], class_scale: Tensor | None = None) -> None:
        criteria = [criterion] if isinstance(criterion, nn.Module) else list(criterion)
        self.criteria = criteria[:1] if all(_same(criteria[0], other) for other in criteria[1:]) else criteria
        self.criterion = self.criteria[0]
        self.class_scale = class_scale
        self.parameters = [p for c in self.criteria for p in c.parameters() if p.requires_grad]
        inner = getattr(self.criterion, "_orig_mod", self.criterion)
        plain = len(self.criteria) == 1 and type(inner) is nn.CrossEntropyLoss
        self._is_cross_entropy = plain and inner.weight is None
        self._directions: dict[torch.Size, Tensor] = {}  # the same few batch sizes come again and again
        self._is_plain_cross_entropy = self._is_cross_entropy and inner.label_smoothing == 0

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per row, shape (*M, B)."""
        if targets.dim() == 1:
            losses = self._of_one(self.criterion, outputs, targets)
        elif len(self.criteria) > 1:
            members = zip(self.criteria, outputs, targets, strict=True)
            losses = torch.stack([self._of_one(c, z, y) for c, z, y in members])
        else:
            n_lead = targets.dim() - 1
            losses = self._of_one(self.criterion, outputs.flatten(0, n_lead), targets.flatten()).view(
                targets.shape
            )
        return losses if self.class_scale is None else losses * self._scale(targets)

    def class_weights(self, targets: Tensor) -> Tensor | None:
        """Return c_y of each row's class, shape (*M, B), by which its loss is multiplied; None: by nothing."""
        return None if self.class_scale is None else self._scale(targets)

    def _scale(self, targets: Tensor) -> Tensor:
        """C of each row's class."""
        assert self.class_scale is not None
        scale = self.class_scale
        return (scale if scale.dim() == targets.dim() else scale.expand(*targets.shape[:-1], -1)).gather(
            -1, targets
        )

    def _of_one(self, criterion: nn.Module, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = criterion(outputs, targets)
        if losses.shape == (len(targets), 1):
            losses = losses.squeeze(1)
        if losses.shape != (len(targets),):
            raise ValueError(
                f"criterion {type(criterion).__name__} returned losses of shape {tuple(losses.shape)} for "
                f"{len(targets)} rows: weighting needs one loss per row, as criteria with reduction='none' give it."
            )
        return losses

    def parameter_gradient(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> list[Tensor | None]:
        """Return ∂(Σ_i w_i f_i)/∂φ for the criterion's own parameters φ at fixed outputs; empty where it has none."""
        if not self.parameters:
            return []
        with torch.enable_grad():
            total = (weights * self(outputs.detach(), targets)).sum()
            return list(torch.autograd.grad(total, self.parameters, allow_unused=True))

    @torch.no_grad()
    def along_one_direction(self, outputs: Tensor, targets: Tensor) -> Line | None:
        """Return slope and curvature of cross-entropy over two logits in t = z_1 − z_0; None for other losses.

        f(t) = log(1 + exp(t)) − y t and f'(t) = σ(t) − y.
        """
        if not self._is_plain_cross_entropy or outputs.shape[-1] != 2 or outputs.dim() != targets.dim() + 1:
            return None
        direction = self._directions.get(outputs.shape)
        if direction is None or direction.device != outputs.device or direction.dtype != outputs.dtype:
            direction = torch.ones_like(outputs)
            direction[..., 0] = -1.0
            self._directions[outputs.shape] = direction
        positive = torch.sigmoid(outputs[..., 1] - outputs[..., 0])
        slope = positive - targets
        if self.class_scale is None:
            return Line(direction, slope, positive, None)
        scale = self._scale(targets)
        return Line(direction, slope * scale, positive, scale)

    @torch.no_grad()
    def start_of_signals(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return a cotangent (*M, B, C) and what each row's signals from it are to be multiplied by (None: 1)."""
        line = self.along_one_direction(outputs, targets)
        if line is None:
            return self.output_gradient(outputs, targets), None
        return line.direction, line.slope

    def output_gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ∂f_i/∂z_i, shape (*M, B, C): softmax(z) − e_y for cross-entropy, by autograd for any other loss."""
        if self._is_plain_cross_entropy and outputs.dim() == targets.dim() + 1:
            gradient = torch.softmax(outputs.detach(), dim=-1)
            gradient.scatter_add_(-1, targets.unsqueeze(-1), gradient.new_full((*targets.shape, 1), -1.0))
            return gradient if self.class_scale is None else gradient * self._scale(targets).unsqueeze(-1)
        with torch.enable_grad():
            z = outputs.detach().requires_grad_()
            return torch.autograd.grad(self(z, targets).sum(), z)[0]

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return columns c_1 … c_R with Σ_r c_r c_rᵀ = ∂²f_i/∂z_i² for every row, shape (R, *M, B, C).

        For cross-entropy they are the closed Cholesky factor of diag(p) − ppᵀ, which has rank C − 1. For any
        other criterion the Hessian is formed by autograd and its negative eigenvalues are set to zero; one
        that torch cannot differentiate twice (MultiMarginLoss) counts as having none.
        """
        with torch.enable_grad():
            z = outputs.detach().requires_grad_()
            factor = softmax_factor(z) if self._is_cross_entropy else self._eigen_factor(z, targets)
        factor = factor.detach()
        if self._is_cross_entropy and self.class_scale is not None:
            factor = factor * self._scale(targets).sqrt().unsqueeze(-1)
        return factor.view(-1, *outputs.shape)

    @torch.no_grad()
    def hessian_draw(self, outputs: Tensor, targets: Tensor, signs: Tensor) -> Tensor:
        """Return a column c with E[c cᵀ] = ∂²f_i/∂z_i² over random signs s, shape (1, *M, B, C).

        For cross-entropy c = √p∘s − p(√p·s), since (diag(√p) − p√pᵀ)(diag(√p) − p√pᵀ)ᵀ = diag(p) − ppᵀ: C figures a
        row, where `hessian_factor` has (C − 1)C. For any other criterion it is H^½ s, H as `hessian_factor` makes
        it positive.

        Parameters
        ----------
        outputs, targets : torch.Tensor of shape (*M, B, C) and (*M, B)
        signs : torch.Tensor of the shape of the outputs
            1 or −1, independent.
        """
        if not self._is_cross_entropy:
            with torch.enable_grad():
                root = self._eigen_factor(outputs.detach().requires_grad_(), targets, symmetric=True)
            factor = root.detach().view(-1, *outputs.shape)
            by_column = signs.reshape(*targets.shape, -1).movedim(-1, 0)
            return (factor * by_column.reshape(*by_column.shape, *[1] * (outputs.dim() - targets.dim()))).sum(
                0, keepdim=True
            )
        p = torch.softmax(outputs, dim=-1)
        mixed = p.sqrt() * signs
        column = mixed - p * mixed.sum(-1, keepdim=True)
        if self.class_scale is not None:
            column = column * self._scale(targets).sqrt().unsqueeze(-1)
        return column.unsqueeze(0)

    def _eigen_factor(self, z: Tensor, targets: Tensor, *, symmetric: bool = False) -> Tensor:
        n_rows = targets.numel()
        (gradient,) = torch.autograd.grad(self(z, targets).sum(), z, create_graph=True)
        columns = gradient.view(n_rows, -1).unbind(1)
        flat = torch.zeros(1, n_rows, len(columns), dtype=z.dtype, device=z.device)
        if not gradient.requires_grad:  # a loss that is linear in the outputs has no curvature
            return flat
        try:
            rows = [torch.autograd.grad(c.sum(), z, retain_graph=True)[0].view(n_rows, -1) for c in columns]
        except RuntimeError as error:
            if "not implemented" not in str(error):
                raise
            return flat
        values, vectors = torch.linalg.eigh(torch.stack(rows, dim=1))
        if not symmetric:
            return (vectors * values.clamp(min=0).sqrt().unsqueeze(1)).permute(2, 0, 1)
        # Eigenvectors have no sign, and of equal values no direction: VΛ^½Vᵀ depends on neither. Rounding's part of a
        # value that is 0 would be large in the root.
        least = values.abs().amax(1, keepdim=True) * (len(columns) * torch.finfo(values.dtype).eps)
        root = torch.where(values > least, values, 0.0).sqrt()
        return ((vectors * root.unsqueeze(1)) @ vectors.mT).permute(2, 0, 1)


def softmax_factor(logits: Tensor) -> Tensor:
    """Return the C − 1 columns of the Cholesky factor of diag(p) − ppᵀ, p = softmax(logits).

    With q_j = Σ_{k ≥ j} p_k, column j has √(p_j q_{j+1}/q_j) on the diagonal and −p_i √(p_j/(q_j q_{j+1}))
    below it. Shape (C − 1, *M, B, C).
    """
    log_p = torch.log_softmax(logits, dim=-1)
    log_q = torch.logcumsumexp(log_p.flip(-1), dim=-1).flip(-1)
    columns = []
    for j in range(logits.shape[-1] - 1):
        diagonal = ((log_p[..., j] + log_q[..., j + 1] - log_q[..., j]) / 2).exp().unsqueeze(-1)
        beside = (log_p[..., j] - log_q[..., j] - log_q[..., j + 1]).unsqueeze(-1)
        below = -(log_p[..., j + 1 :] + beside / 2).exp()
        columns.append(torch.cat([logits.new_zeros(*logits.shape[:-1], j), diagonal, below], dim=-1))
    return torch.stack(columns)


def _same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two criteria agree in kind, settings and tensors."""
    a, b = first.state_dict(), second.state_dict()
    return (
        type(first) is type(second)
        and first.extra_repr() == second.extra_repr()
        and a.keys() == b.keys()
        and all(torch.equal(a[name], b[name]) for name in a)
        and _settings(first) == _settings(second)
    )


def _settings(criterion: nn.Module) -> dict[str, Any]:
    """Plain values that a criterion was made with."""
    return {k: v for k, v in vars(criterion).items() if isinstance(v, bool | int | float | str | None)}

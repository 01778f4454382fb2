"""Per-example losses of a criterion, and the curvature they have in the outputs."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Line(NamedTuple):
    """Losses that depend on the outputs through t = direction·z alone, for B rows.

    ``direction`` is ∂t/∂z of shape (B, C); ``slope`` f'(t) and ``positive``, the probability σ(t), have shape
    (B,), ``scale`` too, the factor on the loss (None for 1).
    """

    direction: Tensor
    slope: Tensor
    positive: Tensor
    scale: Tensor | None

    @property
    def curvature(self) -> Tensor:
        """f''(t) = σ(t) σ(−t), shape (B,)."""
        plain = self.positive * (1.0 - self.positive)
        return plain if self.scale is None else plain * self.scale


class ExampleLoss:
    """f_i = c_y · criterion(output_i, y_i), one figure per row.

    Parameters
    ----------
    criterion : torch.nn.Module
        Called as ``criterion(outputs, targets)``; must return one loss per row.
    class_scale : torch.Tensor of shape (C,) or None, default=None
        Class weight c by which a row's loss is multiplied.
    """

    def __init__(self, criterion: nn.Module, class_scale: Tensor | None = None) -> None:
        self.criterion = criterion
        self.class_scale = class_scale
        inner = getattr(criterion, "_orig_mod", criterion)
        self._is_cross_entropy = type(inner) is nn.CrossEntropyLoss and inner.weight is None
        self._directions: dict[torch.Size, Tensor] = {}  # the same few batch sizes come again and again
        self._is_plain_cross_entropy = self._is_cross_entropy and inner.label_smoothing == 0

    def __call__(self, outputs: Tensor, targets: Any) -> Tensor:
        """Return one loss per row, shape (B,)."""
        losses = self.criterion(outputs, targets)
        if losses.shape == (len(targets), 1):
            losses = losses.squeeze(1)
        if losses.shape != (len(targets),):
            raise ValueError(
                f"criterion {type(self.criterion).__name__} returned losses of shape {tuple(losses.shape)} for "
                f"{len(targets)} rows: weighting needs one loss per row, as criteria with reduction='none' give it."
            )
        return losses if self.class_scale is None else losses * self.class_scale[targets]

    @torch.no_grad()
    def along_one_direction(self, outputs: Tensor, targets: Tensor) -> Line | None:
        """Return slope and curvature of cross-entropy over two logits in t = z_1 − z_0; None for other losses.

        f(t) = log(1 + exp(t)) − y t and f'(t) = σ(t) − y.
        """
        if not self._is_plain_cross_entropy or outputs.dim() != 2 or outputs.shape[1] != 2:
            return None
        direction = self._directions.get(outputs.shape)
        if direction is None or direction.device != outputs.device or direction.dtype != outputs.dtype:
            direction = torch.ones_like(outputs)
            direction[:, 0] = -1.0
            self._directions[outputs.shape] = direction
        positive = torch.sigmoid(outputs[:, 1] - outputs[:, 0])
        slope = positive - targets
        if self.class_scale is None:
            return Line(direction, slope, positive, None)
        scale = self.class_scale[targets]
        return Line(direction, slope * scale, positive, scale)

    def output_gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ∂f_i/∂z_i, shape (B, C): softmax(z) − e_y for cross-entropy, by autograd for any other loss."""
        if self._is_plain_cross_entropy and outputs.dim() == 2:
            gradient = torch.softmax(outputs.detach(), dim=1)
            gradient.scatter_add_(1, targets.unsqueeze(1), gradient.new_full((len(targets), 1), -1.0))
            return gradient if self.class_scale is None else gradient * self.class_scale[targets].unsqueeze(1)
        with torch.enable_grad():
            z = outputs.detach().requires_grad_()
            return torch.autograd.grad(self(z, targets).sum(), z)[0]

    def hessian_factor(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return columns c_1 … c_R with Σ_r c_r c_rᵀ = ∂²f_i/∂z_i² for every row, shape (R, B, C).

        For cross-entropy they are the closed Cholesky factor of diag(p) − ppᵀ, which has rank C − 1. For any
        other criterion the Hessian is formed by autograd and its negative eigenvalues are set to zero; one
        that torch cannot differentiate twice (MultiMarginLoss) counts as having none.
        """
        with torch.enable_grad():
            z = outputs.detach().requires_grad_()
            factor = softmax_factor(z) if self._is_cross_entropy else self._eigen_factor(z, targets)
        factor = factor.detach()
        if self._is_cross_entropy and self.class_scale is not None:
            factor = factor * self.class_scale[targets].sqrt().view(1, -1, 1)
        return factor.view(-1, *outputs.shape)

    def _eigen_factor(self, z: Tensor, targets: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(self(z, targets).sum(), z, create_graph=True)
        columns = gradient.view(len(z), -1).unbind(1)
        flat = torch.zeros(1, len(z), len(columns), dtype=z.dtype, device=z.device)
        if not gradient.requires_grad:  # a loss that is linear in the outputs has no curvature
            return flat
        try:
            rows = [torch.autograd.grad(c.sum(), z, retain_graph=True)[0].view(len(z), -1) for c in columns]
        except RuntimeError as error:
            if "not implemented" not in str(error):
                raise
            return flat
        values, vectors = torch.linalg.eigh(torch.stack(rows, dim=1))
        return (vectors * values.clamp(min=0).sqrt().unsqueeze(1)).permute(2, 0, 1)


def softmax_factor(logits: Tensor) -> Tensor:
    """Return the C − 1 columns of the Cholesky factor of diag(p) − ppᵀ, p = softmax(logits).

    With q_j = Σ_{k ≥ j} p_k, column j has √(p_j q_{j+1}/q_j) on the diagonal and −p_i √(p_j/(q_j q_{j+1}))
    below it. Shape (C − 1, B, C).
    """
    log_p = torch.log_softmax(logits, dim=1)
    log_q = torch.logcumsumexp(log_p.flip(1), dim=1).flip(1)
    n_classes = logits.shape[1]
    columns = []
    for j in range(n_classes - 1):
        diagonal = ((log_p[:, j] + log_q[:, j + 1] - log_q[:, j]) / 2).exp().unsqueeze(1)
        below = -(log_p[:, j + 1 :] + (log_p[:, j] - log_q[:, j] - log_q[:, j + 1]).unsqueeze(1) / 2).exp()
        columns.append(torch.cat([logits.new_zeros(len(logits), j), diagonal, below], dim=1))
    return torch.stack(columns)

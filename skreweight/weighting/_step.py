"""What a weighting sees of a mini-batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim import Optimizer

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.exchange import LOCAL, Exchange
from skreweight.core.products import Products
from skreweight.core.validation_loss import ValidationLoss
from skreweight.core.virtual_step import VirtualStep, virtual_step


@dataclass
class Step:
    """One mini-batch of stage 2.

    M is () for one network and (K,) for K trained at once.

    Attributes
    ----------
    rows : torch.Tensor of shape (*M, B), int64
        Which stored weights belong to the rows of the batch.
    targets : torch.Tensor of shape (*M, B), int64
        Class codes.
    losses : torch.Tensor of shape (*M, B)
        f_i(θ), class weights included, detached.
    multiplicity : torch.Tensor of shape (*M, B) or None
        How many times each row counts (its ``sample_weight``, mean 1 over the training rows); None: once.
    optimizer : torch.optim.Optimizer
    products : Products or None
        F w and Fᵀv at θ; only where the weighting has ``needs_products``.
    validation : ValidationLoss or None
        L_val; only where the weighting has ``needs_validation``.
    products_now : callable or None
        What `now` calls.
    halted : torch.Tensor of shape (*M, 1) or None
        Above 0 once a loss or gradient was not finite: what moves parameters in `after_step` must leave them.
        None: whoever gets as far as `after_step` may move them.
    outputs : torch.Tensor of shape (*M, B, C) or None
        What the network gives; only where the network itself is not trained.
    loss : ExampleLoss or None
        What the losses are of the outputs; None: a loss without class weights.
    diagnostics : dict or None
        Where figures for the history go, by name; None while nobody asked for them.
    exchange : Exchange
        Sums over the processes that share the batch; one process by default.
    """

    rows: Tensor
    targets: Tensor
    losses: Tensor
    multiplicity: Tensor | None
    optimizer: Optimizer
    products: Products | None = None
    validation: ValidationLoss | None = None
    products_now: Callable[[], tuple[Products, tuple[Tensor, list[Tensor]]]] | None = None
    halted: Tensor | None = None
    outputs: Tensor | None = None
    loss: ExampleLoss | None = None
    diagnostics: dict[str, list[Tensor]] | None = None
    exchange: Exchange = LOCAL

    @property
    def size(self) -> int:
        """B, the number of rows of the batch."""
        return self.exchange.size(self.losses.shape[-1])

    def class_weights(self) -> Tensor | None:
        """Return c_y > 0 of each row, (*M, B), which the losses hold as a factor; None: they hold none."""
        return None if self.loss is None else self.loss.class_weights(self.targets)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over the batch of one figure a row, (*M, B) -> (*M, 1).

        Parameters
        ----------
        values : torch.Tensor of shape (*M, B)
        """
        return self.exchange.sum(values.sum(-1, keepdim=True))

    def counted(self, weights: Tensor) -> Tensor:
        """Return the weights with each row counted as often as its sample weight says.

        Parameters
        ----------
        weights : torch.Tensor of shape (*M, B)
        """
        return weights if self.multiplicity is None else weights * self.multiplicity

    def uniform(self) -> Tensor:
        """Return the weights of the plain mean loss, 1/B (times the multiplicity)."""
        return self.counted(torch.full_like(self.losses, 1.0 / self.size))

    def log_sum_exp(self, values: Tensor) -> Tensor:
        """Return log Σ_i exp(v_i) over the batch, rows counted as often as they count, (*M, B) -> (*M, 1).

        Parameters
        ----------
        values : torch.Tensor of shape (*M, B)
        """
        if self.multiplicity is not None:
            values = values + self.multiplicity.to(values.dtype).log()
        return self.exchange.log_sum_exp(torch.logsumexp(values, -1, keepdim=True))

    def exp_below_max(self, values: Tensor) -> Tensor:
        """Return exp(v_i − max v) over the batch, which cannot overflow.

        Parameters
        ----------
        values : torch.Tensor of shape (*M, B)
        """
        return (values - self.max(values)).exp()

    def max(self, values: Tensor) -> Tensor:
        """Return the largest of one figure a row over the batch, (*M, B) -> (*M, 1).

        Parameters
        ----------
        values : torch.Tensor of shape (*M, B)
        """
        return self.exchange.max(values.amax(-1, keepdim=True))

    def whole(self) -> Step:
        """Return the same batch with the rows of all processes, without products and validation rows.

        One process has them all: it gets this step itself. `own` cuts its share out of figures of all rows.
        """
        if not self.exchange.is_shared:
            return self
        counts = torch.ones_like(self.losses) if self.multiplicity is None else self.multiplicity
        rows, targets, losses, counts = self.exchange.gathered(self.rows, self.targets, self.losses, counts)
        return replace(
            self,
            rows=rows,
            targets=targets,
            losses=losses,
            multiplicity=None if self.multiplicity is None else counts,
            products=None,
            validation=None,
            products_now=None,
            outputs=None,
            exchange=LOCAL,
        )

    def own(self, values: Tensor) -> Tensor:
        """Return this process's share of figures of all rows of the batch.

        Parameters
        ----------
        values : torch.Tensor of shape (*M, B)
        """
        return self.exchange.own(values)

    def gathered(self, values: Tensor) -> Tensor:
        """Return figures of this process's share, of all rows of the batch.

        Parameters
        ----------
        values : torch.Tensor of shape (*M, B), B of this process's share
        """
        return self.exchange.gathered(values)[0]

    def virtual(self, kind: str) -> VirtualStep:
        """Return the steps δ_i that an optimiser would take for each row alone.

        Parameters
        ----------
        kind : {"sgd", "optimizer", "optimizer-early-epsilon"}
            See `skreweight.core.virtual_step.virtual_step`.
        """
        assert self.products is not None
        return virtual_step(kind, self.products, self.optimizer, self.exchange)

    def now(self) -> tuple[Products, tuple[Tensor, list[Tensor]]]:
        """Return the batch's products at the parameters as they are now in evaluation mode, and L_val and ∇L_val."""
        assert self.products_now is not None
        return self.products_now()

    def note(self, name: str, value: Tensor) -> None:
        """Keep a figure for the history's diagnostics, if somebody asked for them.

        Parameters
        ----------
        name : str
            Of the figure, in ``history_frame``'s diagnostics.
        value : torch.Tensor
            One figure for the batch, or one a member.
        """
        if self.diagnostics is not None:
            self.diagnostics.setdefault(name, []).append(value.detach())

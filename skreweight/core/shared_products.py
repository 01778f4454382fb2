"""Products of a batch whose rows are spread over processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.exchange import Exchange
from skreweight.core.graph_products import GraphProducts
from skreweight.core.members import Parameters
from skreweight.core.model import Model

if TYPE_CHECKING:
    from skreweight.core.products import Products


class SharedProducts:
    """F w summed over the processes, and Fᵀv of the rows of this one.

    Parameters
    ----------
    share : Products
        Of this process's share of the batch.
    exchange : Exchange
    """

    def __init__(self, share: Products, exchange: Exchange) -> None:
        self.share, self._exchange = share, exchange
        self.model: Model = share.model
        self.outputs: Tensor = share.outputs
        self.targets: Tensor = share.targets
        self.loss: ExampleLoss = share.loss
        self.exact_squares: bool = share.exact_squares

    @property
    def losses(self) -> Tensor:
        """f_i(θ) of the share, shape (b,)."""
        return self.share.losses

    def losses_with_graph(self) -> Tensor:
        """Return f_i(θ) of the share with a graph that leads to the parameters."""
        return self.share.losses_with_graph()

    def weighted(self, weights: Tensor) -> list[Tensor]:
        """Return F w over all processes; `weights`, of shape (b,), are those of the share."""
        return list(self._exchange.gradients(self.share.weighted(weights)))

    def once(self, weights: Tensor) -> list[Tensor]:
        """Return F w as the only product that is asked for, which may cost less."""
        return list(self._exchange.gradients(self.share.once(weights)))

    def project(self, direction: Parameters) -> Tensor:
        """Return Fᵀv of the share, shape (b,)."""
        return self.share.project(direction)

    def squares(self, cotangents: Tensor, weights: Tensor) -> list[Tensor]:
        """Return Σ_r Σ_i w_i (J_iᵀ c_ri)² over all processes."""
        if self.exact_squares:
            return list(self._exchange.gradients(self.share.squares(cotangents, weights)))
        # The signs of all rows are drawn, the same in every process, and the sum is squared, not the shares of it.
        graph = cast(GraphProducts, self.share)
        of_all = weights.new_empty(len(cotangents), self._exchange.size(weights.shape[-1]))
        signs = self._exchange.own(self.model.draws.signs(of_all))
        return [g.square() for g in self._exchange.gradients(graph.mixed(cotangents, weights, signs))]

    def gauss_newton(self, weights: Tensor) -> list[Tensor]:
        """Return the diagonal of Σ_i w_i J_iᵀ (∂²f_i/∂z²) J_i over all processes."""
        if self.exact_squares:
            return list(self._exchange.gradients(self.share.gauss_newton(weights)))
        return self.squares(self.loss.hessian_factor(self.outputs, self.targets), weights)

    def fisher(self, weights: Tensor) -> list[Tensor]:
        """Return Σ_i w_i (∇f_i)² over all processes."""
        if self.exact_squares:
            return list(self._exchange.gradients(self.share.fisher(weights)))
        return self.squares(cast(GraphProducts, self.share).loss_cotangents(), weights)

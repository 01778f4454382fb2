"""The diagonal D that stands for the Hessian of the weighted loss in eq. 7 of Liu et al. 2022.

h = 1/(D + damping) preconditions the constraint step θ' = θ − η h∘F Fᵀ(h∘∇L_val). That matrix is positive
semi-definite whatever the signs in h, so only the size of a curvature matters: each choice is non-negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skreweight.core.exchange import LOCAL, Exchange
from skreweight.core.products import Products

CURVATURES = ("auto", "ggn", "ggn-mc", "hessian", "fisher", "identity")
#: Up to so many classes "auto" is exact: each further one costs a backpropagation of its own.
MAX_CLASSES_EXACT = 16


def diagonal(
    kind: str,
    products: Products,
    weights: Tensor,
    *,
    n_probes: int = 1,
    exchange: Exchange = LOCAL,
) -> list[Tensor]:
    """Return the diagonal D of the curvature of Σ_i w_i f_i, shaped like the parameters.

    Parameters
    ----------
    kind : {"auto", "ggn", "ggn-mc", "hessian", "fisher", "identity"}
        ``"auto"``: ``"ggn"`` up to 16 outputs, ``"ggn-mc"`` above.
        ``"ggn"``: generalised Gauss-Newton matrix Σ w_i J_iᵀ (∂²f_i/∂z²) J_i, the Hessian itself where the
        network is piecewise linear; it takes C − 1 backpropagations of cross-entropy over C logits.
        ``"ggn-mc"``: an unbiased Monte Carlo estimate of it that takes one, Σ w_i (J_iᵀ c_i)² with random c_i of
        E[c_i c_iᵀ] = ∂²f_i/∂z². ``"hessian"``: |diag H| by Hutchinson's estimate ε∘Hε with random signs.
        ``"fisher"``: Σ w_i (∇f_i)², the empirical Fisher matrix. ``"identity"``: ones.
    products : Products
        Of the batch, at the parameters in question.
    weights : torch.Tensor of shape (*M, B)
        Non-negative.
    n_probes : int, default=1
        Draws that an estimate averages ("ggn-mc" and the Hessian; "ggn" and "fisher" where rows' signals are not
        at hand).
    exchange : Exchange
        Sums over the processes that share the batch; one process by default.
    """
    parameters = products.model.parameters
    if kind == "identity":
        return [torch.ones_like(p) for p in parameters]
    if kind == "auto":
        kind = "ggn" if _n_outputs(products, weights) <= MAX_CLASSES_EXACT else "ggn-mc"
    if kind == "hessian":
        probes = [_hutchinson(products, weights, exchange) for _ in range(n_probes)]
        return [torch.stack(draws).mean(0).abs() for draws in zip(*probes, strict=True)]
    if kind == "ggn-mc":
        draws = [_monte_carlo(products, weights, exchange) for _ in range(n_probes)]
    else:
        product = products.gauss_newton if kind == "ggn" else products.fisher
        draws = [product(weights) for _ in range(1 if products.exact_squares else n_probes)]
    return draws[0] if len(draws) == 1 else [torch.stack(d).mean(0) for d in zip(*draws, strict=True)]


def _n_outputs(products: Products, weights: Tensor) -> int:
    """How many outputs a row has."""
    return products.outputs.shape[weights.dim() :].numel()


def _monte_carlo(products: Products, weights: Tensor, exchange: Exchange) -> list[Tensor]:
    """One draw of Σ w_i (J_iᵀ c_i)², E[c_i c_iᵀ] = ∂²f_i/∂z_i²: an unbiased estimate of the Gauss-Newton diagonal."""
    # The signs of all rows are drawn, the same in every process.
    n_rows = exchange.size(weights.shape[-1])
    of_all = products.outputs.new_empty(*weights.shape[:-1], n_rows, _n_outputs(products, weights))
    signs = exchange.own(products.model.draws.signs(of_all).movedim(-1, 0)).movedim(0, -1)
    outputs = products.outputs.detach()
    cotangents = products.loss.hessian_draw(outputs, products.targets, signs.reshape(outputs.shape))
    return products.squares(cotangents, weights)


def _hutchinson(products: Products, weights: Tensor, exchange: Exchange) -> list[Tensor]:
    """One draw of ε∘Hε, an unbiased estimate of diag H."""
    parameters = products.model.parameters
    with torch.enable_grad():
        first = torch.autograd.grad(
            products.losses_with_graph(),
            parameters,
            weights,
            create_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        signs = [products.model.draws.signs(p) for p in parameters]
        curved = [(g, s) for g, s in zip(first, signs, strict=True) if g.requires_grad]
        curvatures = torch.autograd.grad(
            [g for g, _ in curved],
            parameters,
            [s for _, s in curved],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
    summed = exchange.gradients([curvature.detach() for curvature in curvatures])
    return [s * curvature for s, curvature in zip(signs, summed, strict=True)]

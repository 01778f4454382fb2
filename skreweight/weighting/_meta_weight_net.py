"""Meta-Weight-Net: a small network from a row's loss to its weight (Shu et al. 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, where
from torch.nn.functional import logsigmoid

from skreweight.weighting._base import NewState, Weighting
from skreweight.weighting._parameters import choice, count, flag, hyperparameters, number
from skreweight.weighting._step import Step
from skreweight.weighting._virtual_descent import descent_slope


@hyperparameters
class MetaWeightNet(Weighting):
    """Weights that a network V of one hidden layer reads off the loss, trained on the validation loss.

    With V(f) = sigmoid(V₂ᵀ relu(V₁ f + c₁) + c₂), Θ = (V₁, c₁, V₂, c₂), shared by all rows, for each batch:

        w_i(Θ) = V(f_i)/Σ_j V(f_j)                           or V(f_i)/B without ``normalize``
        θ̂(Θ) = θ − η̃ Σ_i w_i(Θ) ∇f_i                         virtual step
        Θ ← one step of V's own optimiser on L_val(θ̂(Θ))
        and the optimiser's step on Σ_i w_i f_i with the new Θ and the same batch.

    The gradient is Σ_i a_i ∂w_i/∂Θ with a = ∂L_val(θ̂)/∂w: the network itself is not differentiated twice. The w_i
    sum to 1, or to the mean of V without ``normalize``, about 1/2 at the start.

    V starts without a draw: V₂ = c₂ = 0, so that all rows weigh the same, and hidden units relu(f − k) and relu(k − f)
    with knots k spread over (0, 2 log C]. The authors start from torch's random layers, and whether those weigh large
    losses more or less is a toss of a coin. V reads the loss f_i before any class weight; where ``class_weight`` gives
    class weights c, what is weighed by w_i, in the virtual and in the real step, is c_y f_i.

    Parameters
    ----------
    n_hidden : int, default=100
        Hidden units of V.
    net_optimizer : {"adam", "sgd"}, default="adam"
        V's optimiser: Adam, or SGD with momentum; weight decay is added to the gradient in both.
    net_lr : float, default=0.01
        V's learning rate; the authors use 1e-3 (Adam, label noise) and 1e-5 (SGD, imbalance), which hardly moves V.
    net_momentum : float in [0, 1), default=0.9
        SGD only.
    net_nesterov : bool, default=True
        SGD only.
    net_weight_decay : float, default=1e-4
        The authors use 1e-4 (Adam) and 5e-4 (SGD).
    normalize : bool, default=True
        Whether weights are divided by their sum over the batch, as in the authors' code for imbalance, or by B, as in
        the paper's objective and in their code for label noise.
    through_loss : bool, default=False
        Whether the virtual step differentiates V's input as well, as the authors' code for imbalance does: ∇f_i is then
        multiplied by ∂(Σ_j w_j c_j f_j)/∂f_i, c_j the class weight of row j.
    virtual_lr : float or None, default=None
        η̃; None: the optimiser's present learning rate.
    lp_norm, lp_coef : float, default=2 and 0.0
        The penalty lp_coef · ``Σ_k |θ_k|^lp_norm`` is part of L_val.

    Attributes
    ----------
    state_ : dict
        ``"net"``, V₁, c₁, V₂ and c₂ one after another, shape (3·n_hidden + 1,), and what its optimiser remembers:
        ``"mean"`` and ``"square"`` of the same shape and ``"n_steps"``.

    References
    ----------
    Shu, Xie, Yi, Zhao, Zhou, Xu, Meng (2019). Meta-Weight-Net: learning an explicit mapping for sample weighting.
    NeurIPS.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("meta-weight-net", n_hidden=20).n_hidden
    20
    """

    needs_validation = needs_products = True
    works_on_shares = True

    n_hidden: int = count(100, at_least=1)
    net_optimizer: str = choice("adam", "sgd")
    net_lr: float = number(1e-2, at_least=0)
    net_momentum: float = number(0.9, at_least=0, below=1)
    net_nesterov: bool = flag(True)
    net_weight_decay: float = number(1e-4, at_least=0)
    normalize: bool = flag(True)
    through_loss: bool = flag(False)
    virtual_lr: float | None = number(None, at_least=0)
    lp_norm: float = number(2, at_least=1)
    lp_coef: float = number(0.0, at_least=0)

    def start(self, new: NewState) -> None:
        """Spread the knots over the losses to be expected; all else is 0."""
        shape, n_classes = new.class_counts.shape[:-1], new.class_counts.shape[-1]
        slopes = torch.ones(self.n_hidden, dtype=torch.float64)
        slopes[1::2] = -1
        n_pairs = (self.n_hidden + 1) // 2
        knots = 2 * math.log(n_classes) / n_pairs * torch.arange(1, n_pairs + 1, dtype=torch.float64)
        intercepts = -slopes * knots.repeat_interleave(2)[: self.n_hidden]
        net = torch.cat([slopes, intercepts, slopes.new_zeros(self.n_hidden + 1)]).to(new.class_counts)
        net = net.expand(*shape, -1).clone()
        self.state_ = {
            "net": net,
            "mean": torch.zeros_like(net),
            "square": torch.zeros_like(net),
            "n_steps": new.per_member(0.0, torch.float64),
        }

    def weigh(self, step: Step) -> Tensor:
        """Return the weights after a step of V on the validation loss."""
        whole = step.whole()  # V has few parameters: every process takes all rows through it
        scale = whole.class_weights()
        losses = whole.losses if scale is None else whole.losses / scale
        gradient = self._gradient(losses, scale, whole, step)
        finite = gradient.isfinite().all(-1, keepdim=True) & losses.isfinite().all(-1, keepdim=True)
        for name, value in self._stepped(gradient).items():
            where(finite, value, self.state_[name], out=self.state_[name])
        return step.own(self._weights(self.state_["net"], losses, whole))

    def _weights(self, net: Tensor, losses: Tensor, step: Step) -> Tensor:
        """w(Θ) of a batch, (*M, B), for Θ of shape (*M, 3·n_hidden + 1)."""
        v1, c1, v2, c2 = net.split([self.n_hidden] * 3 + [1], dim=-1)
        hidden = torch.relu(losses.unsqueeze(-1) * v1.unsqueeze(-2) + c1.unsqueeze(-2))  # (*M, B, n_hidden)
        logits = (hidden @ v2.unsqueeze(-1)).squeeze(-1) + c2
        if not self.normalize:
            return step.uniform() * torch.sigmoid(logits)
        log_v = logsigmoid(logits)  # V of a whole batch may be too small for its dtype
        return step.counted((log_v - step.log_sum_exp(log_v)).exp())

    @torch.enable_grad()
    def _gradient(self, losses: Tensor, scale: Tensor | None, whole: Step, step: Step) -> Tensor:
        """∂L_val(θ̂(Θ))/∂Θ; what multiplies the ∇(c_i f_i) of the products are the moves."""
        net = self.state_["net"].detach().requires_grad_()
        if self.through_loss:
            losses = losses.detach().requires_grad_()
            weighed = losses if scale is None else scale * losses
            total = (self._weights(net, losses, whole) * weighed).sum()
            (moves,) = torch.autograd.grad(total, losses, create_graph=True)
            if scale is not None:  # ∂/∂f_i = c_i ∂/∂(c_i f_i)
                moves = moves / scale
        else:
            moves = self._weights(net, losses, whole)
        slope = step.gathered(descent_slope(step, step.own(moves.detach()), self.virtual_lr))
        (gradient,) = torch.autograd.grad((slope * moves).sum(), net)
        if not self.normalize:
            return gradient
        # While V₂ = 0 all rows weigh the same whatever c₂ is; Adam would make a step of what rounding leaves of 0.
        flat = (net[..., 2 * self.n_hidden : -1] == 0).all(-1, keepdim=True)
        return torch.cat([gradient[..., :-1], where(flat, 0.0, gradient[..., -1:])], dim=-1)

    def _stepped(self, gradient: Tensor) -> dict[str, Tensor]:
        """Return the state after a step of V's optimiser."""
        net, mean, square = self.state_["net"], self.state_["mean"], self.state_["square"]
        gradient = gradient + self.net_weight_decay * net
        if self.net_optimizer == "sgd":
            mean = self.net_momentum * mean + gradient
            direction = gradient + self.net_momentum * mean if self.net_nesterov else mean
            return {"net": net - self.net_lr * direction, "mean": mean}
        n_steps = self.state_["n_steps"] + 1
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
        scale = (1 - 0.999**n_steps).sqrt().to(net.dtype)
        rate = self.net_lr / (1 - 0.9**n_steps).to(net.dtype)
        net = net - rate * mean / (square.sqrt() / scale + 1e-8)
        return {"net": net, "mean": mean, "square": square, "n_steps": n_steps}

"""META and Meta-Weight-Net against virtual steps that autograd differentiates, and what bounds them."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from skreweight.losses import effective_number_weights
from skreweight.weighting import MetaWeightNet, NewState, Weighting, get_weighting
from tests.weighting.problem import N_ROWS, fitted
from tests.weighting.test_weights import OneStep

ROWS = torch.arange(16)
COUNTS = torch.tensor([48.0, 16.0], dtype=torch.float64)


def losses(step: OneStep, parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    named = dict(zip(step.model.names, parameters, strict=True))
    logits = functional_call(step.model.module, named, (x,))
    return torch.nn.functional.cross_entropy(logits, y, reduction="none")


def validation_loss(step: OneStep, v: Tensor, lr: float, f: Tensor, leaves: list[Tensor]) -> Tensor:
    """L_val(θ − lr Σ v_i ∇f_i), with a graph that leads to v."""
    slopes = torch.autograd.grad(v @ f, leaves, create_graph=True)
    virtual = [p - lr * s for p, s in zip(leaves, slopes, strict=True)]
    x_val, y_val = step.validation.rows
    return losses(step, virtual, x_val, y_val).mean()


def recomputed(step: OneStep) -> tuple[Tensor, list[Tensor]]:
    leaves = [p.detach().clone().requires_grad_() for p in step.model.parameters]
    return losses(step, leaves, step.X[ROWS], step.y[ROWS]), leaves


class TestMeta:
    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    @pytest.mark.parametrize(
        "options", [{"bound": None}, {}, {"bound": 0.3}, {"bound": None, "floor": 0.0}, {"floor": 0.9}]
    )
    @pytest.mark.parametrize("virtual_lr", [None, 0.2])
    def test_against_autograd(
        self, reduction: str, options: dict[str, Any], virtual_lr: float | None
    ) -> None:
        weighting = get_weighting(
            "meta", conditional_step=60.0, virtual_reduction=reduction, virtual_lr=virtual_lr, **options
        )
        step = OneStep(weighting)
        for _ in range(3):
            f, leaves = recomputed(step)
            c = effective_number_weights(COUNTS, 0.9999)[step.y[ROWS]]
            v = (c if reduction == "sum" else c / 16).requires_grad_()
            (slope,) = torch.autograd.grad(
                validation_loss(step, v, 0.5 if virtual_lr is None else virtual_lr, f, leaves), v
            )
            epsilon = -60 * slope
            bound = options.get("bound", 1.0)
            if bound is not None:
                epsilon = torch.maximum(torch.minimum(epsilon, bound * c), -bound * c)
            expected = (c + epsilon) / 16
            if "floor" in options:
                expected = expected.clamp(min=options["floor"] / 16)
            torch.testing.assert_close(step(ROWS), expected.detach(), rtol=1e-10, atol=1e-14)

    def test_the_bound_bounds_what_diverges_without_it(self) -> None:
        options: dict[str, Any] = {"weighting__conditional_step": 1e4, "optimizer": torch.optim.SGD}
        bounded = fitted("meta", **options)
        assert bounded.example_weights_.max() <= 2 * 2
        assert bounded.example_weights_.min() >= 0
        free = fitted("meta", weighting__bound=None, max_epochs=1, **options)
        assert free.example_weights_.min() < -4

    @pytest.mark.parametrize("reduction", ["mean", "sum"])
    def test_a_step_on_the_sum_grows_with_the_batch(self, reduction: str) -> None:
        """The validation rows see a virtual step B times as long."""
        options: dict[str, Any] = {"virtual_reduction": reduction, "virtual_lr": 0.1, "bound": None}
        step = OneStep(get_weighting("meta", conditional_step=1.0, **options))
        other = OneStep(
            get_weighting(
                "meta", virtual_reduction="mean", virtual_lr=1.6, conditional_step=1 / 16, bound=None
            )
        )
        same = torch.allclose(step(ROWS), other(ROWS), rtol=1e-12)
        assert same == (reduction == "sum")


class Slow:
    """V as a torch module with torch's own optimiser, its gradient through the whole virtual network."""

    def __init__(self, weighting: MetaWeightNet) -> None:
        self.weighting = weighting
        weighting.start(NewState(N_ROWS, COUNTS))
        n = weighting.n_hidden
        self.net = torch.nn.Sequential(
            torch.nn.Linear(1, n), torch.nn.ReLU(), torch.nn.Linear(n, 1), torch.nn.Sigmoid()
        ).double()
        flat = weighting.state_["net"].clone()
        torch.nn.utils.vector_to_parameters(flat, self.net.parameters())
        options: dict[str, Any] = {"lr": weighting.net_lr, "weight_decay": weighting.net_weight_decay}
        if weighting.net_optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(self.net.parameters(), **options)
        else:
            options |= {"momentum": weighting.net_momentum, "nesterov": weighting.net_nesterov}
            self.optimizer = torch.optim.SGD(self.net.parameters(), **options)

    def weights(self, f: Tensor) -> Tensor:
        v = self.net(f.unsqueeze(1)).squeeze(1)
        return v / v.sum() if self.weighting.normalize else v / len(v)

    def __call__(self, step: OneStep, class_weights: Tensor | None = None) -> Tensor:
        f, leaves = recomputed(step)
        seen = f if self.weighting.through_loss else f.detach()
        weighed = f if class_weights is None else class_weights[step.y[ROWS]] * f
        slopes = torch.autograd.grad(self.weights(seen) @ weighed, leaves, create_graph=True)
        lr = 0.5 if self.weighting.virtual_lr is None else self.weighting.virtual_lr
        x_val, y_val = step.validation.rows
        virtual = [p - lr * s for p, s in zip(leaves, slopes, strict=True)]
        value = losses(step, virtual, x_val, y_val).mean()
        self.optimizer.zero_grad()
        value.backward(inputs=list(self.net.parameters()))
        self.optimizer.step()
        return self.weights(f.detach()).detach()


class Moved(MetaWeightNet):
    """A net whose output layer is not 0, as after a step."""

    def start(self, new: NewState) -> None:
        super().start(new)
        net = self.state_["net"]
        net += 0.1 * torch.linspace(-1, 1, len(net)).sin()


class TestMetaWeightNet:
    @pytest.mark.parametrize("normalize", [True, False])
    @pytest.mark.parametrize("through_loss", [True, False])
    @pytest.mark.parametrize(
        "options",
        [
            {"net_lr": 0.1},
            {"net_lr": 0.1, "net_weight_decay": 0.3, "virtual_lr": 2.0},
            {"net_lr": 5.0, "net_optimizer": "sgd", "virtual_lr": 2.0},
            {"net_lr": 5.0, "net_optimizer": "sgd", "net_nesterov": False, "net_weight_decay": 0.01},
        ],
    )
    def test_against_autograd(self, options: dict[str, Any], normalize: bool, through_loss: bool) -> None:
        weighting = Moved(n_hidden=7, normalize=normalize, through_loss=through_loss, **options)
        step = OneStep(weighting)
        slow = Slow(Moved(**weighting.get_params()))
        start = weighting.state_["net"].clone()
        for _ in range(5):
            expected = slow(step)
            torch.testing.assert_close(step(ROWS), expected, rtol=1e-9, atol=1e-13)
        flat = torch.nn.utils.parameters_to_vector(slow.net.parameters()).detach()
        torch.testing.assert_close(weighting.state_["net"], flat, rtol=1e-8, atol=1e-11)
        assert (flat - start).abs().max() > 1e-3

    @pytest.mark.parametrize("through_loss", [True, False])
    def test_reads_the_loss_before_class_weights(self, through_loss: bool) -> None:
        """And weighs the loss after them, in the virtual step as well."""
        c = torch.tensor([0.25, 4.0], dtype=torch.float64)
        weighting = Moved(n_hidden=7, net_lr=0.1, through_loss=through_loss)
        step = OneStep(weighting, class_weights=c)
        slow = Slow(Moved(**weighting.get_params()))
        for _ in range(5):
            expected = slow(step, c)
            torch.testing.assert_close(step(ROWS), expected, rtol=1e-9, atol=1e-13)
        flat = torch.nn.utils.parameters_to_vector(slow.net.parameters()).detach()
        torch.testing.assert_close(weighting.state_["net"], flat, rtol=1e-8, atol=1e-11)

    def test_class_weights_of_the_estimator_reach_it(self) -> None:
        """With a net that stands still, w is V of the plain loss over the batch's sum, whatever the class weights."""
        options: dict[str, Any] = {"batch_size": -1, "max_epochs": 1, "lr": 1e-9, "weighting__net_lr": 0.0}
        plain, weighed = (
            fitted(Moved(n_hidden=7), class_weight=c, **options) for c in (None, {0: 0.2, 1: 5.0})
        )
        assert plain.example_weights_.std() > 0.01
        torch.testing.assert_close(
            torch.from_numpy(plain.example_weights_),
            torch.from_numpy(weighed.example_weights_),
            rtol=1e-6,
            atol=1e-6,
        )

    @pytest.mark.parametrize("n_hidden", [1, 2, 7, 100])
    @pytest.mark.parametrize("n_classes", [2, 10])
    def test_start(self, n_hidden: int, n_classes: int) -> None:
        """All rows weigh the same, no unit is dead for every loss to be expected, and nothing is drawn."""
        state = torch.get_rng_state()
        weighting = get_weighting("meta-weight-net", n_hidden=n_hidden)
        weighting.start(NewState(N_ROWS, torch.ones(n_classes)))
        assert torch.equal(state, torch.get_rng_state())
        v1, c1, v2, c2 = weighting.state_["net"].split([n_hidden] * 3 + [1])
        assert not v2.any() and not c2.any()
        f = torch.linspace(0, 2.1 * torch.tensor(n_classes).log().item(), 50).unsqueeze(1)
        active = (f * v1 + c1 > 0).any(0)
        assert active.all()
        assert len(torch.unique(-c1 / v1)) == (n_hidden + 1) // 2

    @pytest.mark.parametrize("through_loss", [True, False])
    def test_rounding_is_no_slope(self, through_loss: bool) -> None:
        """While all rows weigh the same c₂ has none, and Adam's step, which knows no size, must be 0."""
        weighting = MetaWeightNet(n_hidden=7, through_loss=through_loss)
        step = OneStep(weighting)
        step(ROWS)
        net = weighting.state_["net"].clone()
        assert net[-1] == 0
        assert net[14:21].any()
        step(ROWS)
        assert weighting.state_["net"][-1] != 0

    def test_fits_do_not_move_the_global_generator_and_agree(self) -> None:
        state = torch.get_rng_state()
        one, other = (fitted("meta-weight-net", weighting__net_lr=0.1) for _ in range(2))
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(one.weighting_.state_["net"], other.weighting_.state_["net"])

    @pytest.mark.parametrize("net_optimizer", ["adam", "sgd"])
    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_a_loss_that_is_not_finite_leaves_no_trace(self, bad: float, net_optimizer: str) -> None:
        weighting: Weighting = Moved(n_hidden=7, net_optimizer=net_optimizer)
        step = OneStep(weighting)
        step(ROWS)
        before = {name: value.clone() for name, value in weighting.state_.items()}
        step.X[3] = bad
        step(ROWS)
        for name, value in before.items():
            assert torch.equal(weighting.state_[name], value), name
        assert weighting.state_["mean"].any()

    def test_float32_weights_too_small_to_add_up(self) -> None:
        """V itself underflows; divided by its sum it is a softmax."""
        weighting = get_weighting("meta-weight-net", n_hidden=1, net_lr=0.0)
        step = OneStep(weighting, dtype=torch.float32)
        weighting.state_["net"].copy_(torch.tensor([1.0, 0.0, 1.0, -200.0]))
        f, _ = recomputed(step)
        torch.testing.assert_close(step(ROWS), torch.softmax(f.detach(), 0), rtol=1e-4, atol=1e-7)

"""The recorded runs of the authors' code, replayed through the estimator: every parameter and weight."""

from typing import Any

import numpy as np
import pytest
import torch

from skreweight.losses import FocalLoss, LDAMLoss, effective_number_weights
from skreweight.weighting import NewState, Step, get_weighting
from tests.golden import PARAMETERS, Recorder, assert_parameters, golden_module, load, replay

SGD = {"optimizer": torch.optim.SGD, "lr": 0.1}
DRW = {"class_weight": "effective-number", "defer_class_weight": True}
LDAM = {"criterion": LDAMLoss, "criterion__tau": 1.0}
FROM_THE_START = {"warmup_epochs": 0, "max_epochs": 5}
AFTER_TWO_EPOCHS = {"warmup_epochs": 2, "max_epochs": 3}
AFTER_ONE_EPOCH = {"warmup_epochs": 1, "max_epochs": 4}

# What to set, run by run; the authors' average does not correct its start.
ABSGD_RUNS: dict[str, dict[str, Any]] = {
    "repo_ce_l1_g0.9_a1": {**FROM_THE_START},
    "repo_ce_l0.5_g0.1_a1": {**FROM_THE_START, "weighting__lam": 0.5, "weighting__gamma": 0.1},
    "repo_ce_l5_g0.7_a0.5_2stage": {
        **AFTER_TWO_EPOCHS,
        "weighting__lam": 5,
        "weighting__gamma": 0.7,
        "weighting__alpha": 0.5,
    },
    "repo_cbce_drw": {
        **AFTER_TWO_EPOCHS,
        **DRW,
        "weighting__lam": 3,
        "weighting__gamma": 0.45,
        "weighting__alpha": 0.3,
    },
    "repo_focal": {**FROM_THE_START, "criterion": FocalLoss, "criterion__gamma": 1},
    "repo_ldam": {**FROM_THE_START, **LDAM, "weighting__lam": 10},
    "repo_cbldam_drw": {**AFTER_TWO_EPOCHS, **DRW, **LDAM, "weighting__lam": 10},
    "repo_ce_momentum_wd": {
        **FROM_THE_START,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 2e-4,
    },
    "pkg_l1_m0": {"warmup_epochs": 1, "max_epochs": 4, "weighting__lam": 1.0},
    "pkg_l0.5_m2": {**AFTER_TWO_EPOCHS, "weighting__lam": 0.5},
}
# The authors take focal's p from the class-weighted loss, which no parameter here asks for.
QUIRK_RUN = "repo_cbfocal_drw"

ADAM = {
    "optimizer": torch.optim.Adam,
    "lr": 0.01,
    "optimizer__param_groups": [("*.weight", {"weight_decay": 0.01})],
    "weighting__virtual_step": "optimizer-early-epsilon",
    "weighting__virtual_batch_size": 8,
}
HU_RUNS: dict[str, dict[str, Any]] = {
    "img_sgd_linear_d2": {**FROM_THE_START, **SGD, "weighting__decay": 2.0},
    "img_sgd_linear_d1": {**FROM_THE_START, **SGD, "weighting__decay": 1.0},
    "img_sgd_softmax10_d5_pre4": {
        **AFTER_ONE_EPOCH,
        **SGD,
        "weighting__decay": 5.0,
        "weighting__normalization": "softmax",
        "weighting__temperature": 10.0,
    },
    "img_sgdmom_wd_linear_d2": {
        **FROM_THE_START,
        "optimizer": torch.optim.SGD,
        "lr": 0.01,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 0.01,
        "weighting__virtual_step": "optimizer",
        "weighting__decay": 2.0,
    },
    "txt_adam_linear_d10": {**FROM_THE_START, **ADAM, "weighting__decay": 10.0},
    "txt_adam_softmax_d5_pre4": {
        **AFTER_ONE_EPOCH,
        **ADAM,
        "weighting__decay": 5.0,
        "weighting__normalization": "softmax",
    },
}


class TestABSGD:
    golden = load("absgd")

    def test_every_run_is_here(self) -> None:
        assert {*ABSGD_RUNS, QUIRK_RUN} == set(self.golden.meta)

    @pytest.mark.parametrize("name", ABSGD_RUNS)
    def test_parameters_and_weights_of_every_step(self, name: str) -> None:
        settings = {**SGD, "weighting": "absgd", "weighting__correct_start": False, **ABSGD_RUNS[name]}
        recorder, used = replay(self.golden, **settings)
        recorded = self.golden.run(name)
        assert_parameters(recorder, recorded)
        first = 4 * settings["warmup_epochs"]
        assert len(used) == 20 - first
        np.testing.assert_allclose(used, recorded["p"][first:], rtol=1e-10)
        np.testing.assert_allclose(recorded["p"][:first], 1 / 16, rtol=1e-10)

    def test_the_quirk_run_on_the_functional_core(self) -> None:
        """Class-balanced focal loss whose p = exp(−c·CE) comes from the class-weighted cross-entropy."""
        recorded = self.golden.run(QUIRK_RUN)
        module, optimizer = golden_module(), None
        weighting = get_weighting("absgd", lam=1.0, gamma=0.9, correct_start=False)
        weighting.start(NewState(64, self.golden.cls_num_list.double()))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        recorder = Recorder()
        for step, rows in enumerate(self.golden.idx):
            logits, target = module(self.golden.X[rows]), self.golden.y[rows]
            deferred = step >= 8
            if deferred:
                scale = effective_number_weights(self.golden.cls_num_list, 0.9999)[target]
                weighted = scale * torch.nn.functional.cross_entropy(logits, target, reduction="none")
                losses = (1 - torch.exp(-weighted)) * weighted
            else:
                losses = FocalLoss(gamma=1, reduction="none")(logits, target)
            described = Step(rows, target, losses.detach(), None, optimizer)
            weights = weighting.weigh(described) if deferred else described.uniform()
            np.testing.assert_allclose(weights, recorded["p"][step], rtol=1e-10)
            optimizer.zero_grad()
            torch.dot(weights, losses).backward()
            optimizer.step()
            state = module.state_dict()
            recorder.parameters.append({k: state[v].clone().numpy() for k, v in PARAMETERS.items()})
        assert_parameters(recorder, recorded)

    @pytest.mark.parametrize("add_uniform", [False, True])
    @pytest.mark.parametrize("lam", [-2.0, 0.7])
    def test_noisy_label_variant_against_the_formula_as_it_is_written(
        self, lam: float, add_uniform: bool
    ) -> None:
        """No run was recorded: an exp in plain NumPy and a gradient by hand, λ < 0 and p + 1/B included."""
        gamma, alpha = 0.1, 0.5
        recorder, used = replay(
            self.golden,
            **SGD,
            **FROM_THE_START,
            weighting="absgd",
            weighting__lam=lam,
            weighting__gamma=gamma,
            weighting__alpha=alpha,
            weighting__add_uniform=add_uniform,
            weighting__correct_start=False,
        )
        theta = {name: getattr(self.golden, name).numpy().copy() for name in PARAMETERS}
        X, y = self.golden.X.numpy(), self.golden.y.numpy()
        s = 0.0
        for step, rows in enumerate(self.golden.idx.numpy()):
            hidden = np.tanh(X[rows] @ theta["W1"].T + theta["b1"])
            logits = hidden @ theta["W2"].T + theta["b2"]
            p_class = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            losses = -np.log(p_class[np.arange(16), y[rows]])
            s = (1 - gamma) * s + gamma * alpha * np.exp(losses / lam).mean()
            w = np.exp(losses / lam) / s / 16 + (1 / 16 if add_uniform else 0)
            np.testing.assert_allclose(used[step], w, rtol=1e-10)
            signal = (p_class - np.eye(3)[y[rows]]) * w[:, None]
            signal_hidden = (signal @ theta["W2"]) * (1 - hidden**2)
            slopes = {
                "W1": signal_hidden.T @ X[rows],
                "b1": signal_hidden.sum(0),
                "W2": signal.T @ hidden,
                "b2": signal.sum(0),
            }
            theta = {name: value - 0.1 * slopes[name] for name, value in theta.items()}
            for name, value in theta.items():
                np.testing.assert_allclose(recorder.parameters[step][name], value, rtol=1e-10, atol=1e-14)


class TestHu:
    golden = load("hu")

    def replay(self, name: str, **changes: Any) -> tuple[Recorder, list[np.ndarray]]:
        return replay(
            self.golden,
            **{
                "weighting": "hu",
                "weighting__initial_weight": 1.0,
                "validation_data": (self.golden.Xv.numpy(), self.golden.yv.numpy()),
                **HU_RUNS[name],
                **changes,
            },
        )

    def test_every_run_is_here(self) -> None:
        assert set(HU_RUNS) == set(self.golden.meta)

    @pytest.mark.parametrize("name", HU_RUNS)
    def test_parameters_and_weights_of_every_step(self, name: str) -> None:
        recorder, used = self.replay(name)
        recorded = self.golden.run(name)
        assert_parameters(recorder, recorded)
        np.testing.assert_allclose(recorder.stored, recorded["w_all"], rtol=1e-10)
        first = 4 * HU_RUNS[name]["warmup_epochs"]
        np.testing.assert_allclose(used, recorded["norm_weights"][first:], rtol=1e-10)

    @pytest.mark.parametrize("name", ["txt_adam_linear_d10", "txt_adam_softmax_d5_pre4"])
    def test_adam_of_todays_torch_differs_by_where_epsilon_stands(self, name: str) -> None:
        """The authors' virtual Adam adds eps before the bias correction; the difference is small, not none."""
        recorder, _ = self.replay(name, weighting__virtual_step="optimizer")
        recorded = self.golden.run(name)
        assert_parameters(recorder, recorded, rtol=1e-2)
        difference = np.abs(np.array(recorder.stored) - recorded["w_all"]).max()
        assert 1e-12 < difference < 1e-3


class TestRen:
    """No run was recorded: the algorithm box of Ren et al. 2018, with the virtual step differentiated by autograd."""

    golden = load("hu")

    @pytest.mark.parametrize("lp_coef", [0.0, 0.01])
    def test_against_a_differentiated_virtual_step(self, lp_coef: float) -> None:
        golden = self.golden
        recorder, used = replay(
            golden,
            **SGD,
            **FROM_THE_START,
            weighting="ren",
            weighting__lp_norm=4,
            weighting__lp_coef=lp_coef,
            validation_data=(golden.Xv.numpy(), golden.yv.numpy()),
        )
        theta = [getattr(golden, name).clone() for name in PARAMETERS]

        def losses_at(parameters: list[torch.Tensor], X: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            W1, b1, W2, b2 = parameters
            logits = torch.tanh(X @ W1.T + b1) @ W2.T + b2
            return -torch.log_softmax(logits, 1)[torch.arange(len(y)), y]

        for step, rows in enumerate(golden.idx):
            X, y = golden.X[rows], golden.y[rows]
            leaves = [t.clone().requires_grad_() for t in theta]
            epsilon = torch.zeros(16, dtype=torch.float64, requires_grad=True)
            slopes = torch.autograd.grad(losses_at(leaves, X, y) @ epsilon, leaves, create_graph=True)
            virtual = [t - 0.1 * s for t, s in zip(leaves, slopes, strict=True)]
            validation = losses_at(virtual, golden.Xv, golden.yv).mean()
            validation = validation + lp_coef * sum((t.abs() ** 4).sum() for t in virtual)
            (slope,) = torch.autograd.grad(validation, epsilon)
            w = (-slope).clamp(min=0)
            w = w / w.sum()
            np.testing.assert_allclose(used[step], w, rtol=1e-10, atol=1e-15)
            leaves = [t.clone().requires_grad_() for t in theta]
            real = torch.autograd.grad(losses_at(leaves, X, y) @ w, leaves)
            theta = [t - 0.1 * s for t, s in zip(theta, real, strict=True)]
            for name, value in zip(PARAMETERS, theta, strict=True):
                np.testing.assert_allclose(recorder.parameters[step][name], value, rtol=1e-10, atol=1e-14)

"""Recorded runs of META, Meta-Weight-Net, TERM, OHEM and exponentiated gradient, replayed through the estimator."""

from typing import Any

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

from skreweight import ReweightedClassifier
from skreweight.weighting import ABSGD, EG, MetaWeightNet, NewState
from tests.golden import Golden, Recorder, Weights, assert_parameters, load, replay

FOUR_EPOCHS = {"warmup_epochs": 0, "max_epochs": 4, "optimizer": torch.optim.SGD}
PLAIN_SGD = {**FOUR_EPOCHS, "lr": 0.1}


def with_validation(golden: Golden) -> dict[str, Any]:
    return {"validation_data": (golden.Xv.numpy(), golden.yv.numpy())}


def assert_weights(used: list[np.ndarray], expected: np.ndarray, atol: float = 1e-15) -> None:
    assert len(used) == len(expected)
    np.testing.assert_allclose(used, expected, rtol=1e-10, atol=atol)


class StageTwoLR(Callback):
    """Another learning rate from stage 2 on."""

    def __init__(self, n_plain: int, lr: float) -> None:
        self.n_plain, self.lr = n_plain, lr

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) > self.n_plain:
            for group in net.optimizer_.param_groups:
                group["lr"] = self.lr


class TestMeta:
    golden = load("meta")

    @pytest.mark.parametrize("name", golden.meta)
    def test_authors_code(self, name: str) -> None:
        meta, recorded = self.golden.meta[name], self.golden.run(name)
        n_plain = meta["plain_epochs"]
        recorder, used = replay(
            self.golden,
            **with_validation(self.golden),
            weighting="meta",
            weighting__conditional_step=meta["eps_step"],
            weighting__virtual_reduction="sum",
            weighting__virtual_lr=meta["virtual_lr"],
            weighting__bound=None,
            warmup_epochs=n_plain,
            max_epochs=4 - n_plain,
            optimizer=torch.optim.SGD,
            optimizer__momentum=meta["momentum"],
            optimizer__nesterov=meta["nesterov"],
            optimizer__weight_decay=meta["wd"],
            lr=meta["lr"],
            callbacks=[StageTwoLR(n_plain, meta["lr_meta_stage"])],
        )
        assert_weights(used, recorded["weights"] / 8)
        # A virtual learning rate of 8 makes rounding grow from step to step, beside parameters of size 1e-3.
        assert_parameters(recorder, recorded, atol=1e-12 if name == "extreme" else 1e-14)
        np.testing.assert_allclose(recorder.states[-1]["class_weights"], recorded["per_cls_weights"], 1e-12)

    def test_the_runs_tell_conditional_weights_from_none(self) -> None:
        recorded = self.golden.run("extreme")
        assert np.abs(recorded["eps"]).max() > 0.1


class TestMetaWeightNet:
    golden = load("mwn")

    @pytest.mark.parametrize("name", golden.meta)
    def test_authors_code(self, name: str) -> None:
        meta, recorded = self.golden.meta[name], self.golden.run(name)
        layers = [torch.from_numpy(recorded[f"start_{part}"]).flatten() for part in ("V1", "c1", "V2", "c2")]

        class AuthorsStart(MetaWeightNet):
            def start(self, new: NewState) -> None:
                super().start(new)
                self.state_["net"].copy_(torch.cat(layers))

        imbalance = meta["file"] == "imbalance"
        weighting = AuthorsStart(
            n_hidden=meta["hidden"],
            net_optimizer=meta["net_opt"],
            net_lr=meta["net_lr"],
            net_momentum=meta.get("net_momentum", 0.0),
            net_nesterov=meta.get("net_nesterov", False),
            net_weight_decay=meta["net_wd"],
            normalize=imbalance,
            through_loss=imbalance,
            virtual_lr=meta["virtual_lr"],
        )
        recorder, used = replay(
            self.golden,
            **with_validation(self.golden),
            **FOUR_EPOCHS,
            weighting=weighting,
            lr=meta["model_lr"],
            optimizer__momentum=meta["model_momentum"],
            optimizer__nesterov=meta["model_nesterov"],
            optimizer__weight_decay=meta["model_wd"],
        )
        assert_weights(used, recorded["weights"])
        assert_parameters(recorder, recorded)
        nets = [
            np.concatenate([recorded[part][k].ravel() for part in ("V1", "c1", "V2", "c2")])
            for k in range(12)
        ]
        np.testing.assert_allclose([s["net"] for s in recorder.states], nets, rtol=1e-10, atol=1e-14)


class OneLogit(nn.Module):
    """Logistic regression as two logits, (0, θᵀx), from θ = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 1, bias=False, dtype=torch.float64)
        nn.init.zeros_(self.layer.weight)

    def forward(self, X: Tensor) -> Tensor:
        z = self.layer(X)
        return torch.cat([torch.zeros_like(z), z], dim=1)


class Theta(Callback):
    """θ after each step."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.found: list[np.ndarray] = []

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if training:
            self.found.append(net.module_.layer.weight.detach().clone().numpy().ravel())


class FromOne(ABSGD):
    """ABSGD whose average starts at 1, as TERM's: R = 0."""

    def start(self, new: NewState) -> None:
        super().start(new)
        self.state_["log_average"].zero_()


class TestTerm:
    golden = load("term")
    full_batch = ("class_t50", "class_t1", "sample_in_class", "sample_in_class_pos")
    derived = ("stochastic_class_t2", "stochastic_sample_t2", "stochastic_sample_tm1")

    def test_every_run_is_here(self) -> None:
        elsewhere = {"class_in_annotator", "sampled_groups"}  # test_golden_written
        assert set(self.golden.meta) == {*self.full_batch, *self.derived, *elsewhere}

    @pytest.mark.parametrize("name", full_batch)
    def test_authors_full_batch_programs(self, name: str) -> None:
        """Their gradients have no weights; those recorded were derived from them."""
        meta, recorded = self.golden.meta[name], self.golden.run(name)
        theta, weights = Theta(), Weights()
        ReweightedClassifier(
            OneLogit(),
            weighting="term",
            weighting__t=meta["t"],
            weighting__tau=meta["tau"],
            weighting__update=1.0,
            optimizer=torch.optim.SGD,
            lr=meta["lr"],
            batch_size=-1,
            iterator_train__shuffle=False,
            warmup_epochs=0,
            max_epochs=12,
            keep_best=False,
            callbacks=[theta, weights],
        ).fit(self.golden.arrays["lin/X"], self.golden.arrays["lin/y"].astype(int))
        np.testing.assert_allclose(theta.found, recorded["theta"], rtol=1e-10, atol=1e-14)
        assert_weights(weights.used, recorded["derived_weights"])

    def test_batches_with_classes_as_groups(self) -> None:
        """A derived run: the paper's moving average of each class's loss, which starts at 0."""
        meta, recorded = self.golden.meta["stochastic_class_t2"], self.golden.run("stochastic_class_t2")
        recorder, used = replay(
            self.golden,
            **PLAIN_SGD,
            weighting="term",
            weighting__t=meta["t"],
            weighting__update=meta["update"],
            weighting__correct_start=False,
        )
        assert_weights(used, recorded["weights"])
        assert_parameters(recorder, recorded)
        np.testing.assert_allclose([s["tilted"] for s in recorder.states], recorded["R"], rtol=1e-10)

    @pytest.mark.parametrize("name", ["stochastic_sample_t2", "stochastic_sample_tm1"])
    def test_tilt_of_single_rows_is_absgd(self, name: str) -> None:
        """Derived runs: λ = 1/t, γ the share of the batch, and the start of the average, which the paper has at 1."""
        meta, recorded = self.golden.meta[name], self.golden.run(name)
        weighting = FromOne(lam=1 / meta["t"], gamma=meta["update"], correct_start=False)
        recorder, used = replay(self.golden, **PLAIN_SGD, weighting=weighting)
        assert_weights(used, recorded["weights"])
        assert_parameters(recorder, recorded)
        r = [s["log_average"].item() / meta["t"] for s in recorder.states]
        np.testing.assert_allclose(r, recorded["R"], rtol=1e-10)


class TestTopLoss:
    golden = load("ohem")
    runs = ("ohem_25", "ohem_select_2", "ohem_select_4", "cvar_50")

    def test_every_run_is_here(self) -> None:
        elsewhere = {"hard_mining_ren", "spl_hard", "spl_linear"}  # test_golden_written
        assert set(self.golden.meta) == {*self.runs, *elsewhere}

    @pytest.mark.parametrize("name", runs)
    def test_parameters_and_weights_of_every_step(self, name: str) -> None:
        """OHEM's own selection of rows, and the best response of CVaR; "ohem_25" is derived."""
        meta, recorded = self.golden.meta[name], self.golden.run(name)
        keep = meta.get("keep", meta.get("alpha"))
        recorder, used = replay(self.golden, **PLAIN_SGD, weighting="top-loss", weighting__keep=keep)
        assert_weights(used, recorded["weights"])
        assert_parameters(recorder, recorded)


class MultiplicativeReweighting(Callback):
    """Bar et al.'s update of the stored weights: at the end of each epoch, by the losses of all rows."""

    def __init__(self, golden: Golden, eta: float) -> None:
        self.golden, self.eta = golden, eta

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            logits = net.module_(self.golden.X)
            losses = nn.functional.cross_entropy(logits, self.golden.y, reduction="none")
        net.weighting_.state_["weights"] -= self.eta * losses


class TestEG:
    golden = load("eg")
    # Derived: no code of Majidi et al. is public.
    runs: dict[str, dict[str, Any]] = {  # noqa: RUF012
        "eg_all_after": {"keep_batch_mass": False, "update": "after"},
        "eg_all_before": {"keep_batch_mass": False, "update": "before"},
        "eg_batch_after": {"keep_batch_mass": True, "update": "after"},
        "eg_up": {"keep_batch_mass": True, "update": "before"},
    }

    def test_every_run_is_here(self) -> None:
        elsewhere = {"ciw_alpha2", "ciw_alpha05"}  # test_golden_written
        assert set(self.golden.meta) == {*self.runs, *elsewhere, "mr_default", "mr_strong", "ciw_kl"}

    @pytest.mark.parametrize("name", runs)
    def test_derived_runs(self, name: str) -> None:
        recorded = self.golden.run(name)
        weighting = EG(eta=self.golden.meta[name]["eta"], **self.runs[name])
        recorder, used = replay(self.golden, **PLAIN_SGD, weighting=weighting)
        assert_weights(used, recorded["weights"])
        assert_parameters(recorder, recorded)
        stored = np.array(recorder.stored)
        np.testing.assert_allclose(stored / stored.sum(1, keepdims=True), recorded["stored"], rtol=1e-10)

    @pytest.mark.parametrize("name", ["mr_default", "mr_strong"])
    def test_multiplicative_reweighting(self, name: str) -> None:
        """The authors' weights: the same normalisation, with an update once an epoch in the place of EG's own."""
        meta, recorded = self.golden.meta[name], self.golden.run(name)
        recorder, used = replay(
            self.golden,
            **PLAIN_SGD,
            optimizer__momentum=meta["momentum"],
            optimizer__weight_decay=meta["wd"],
            weighting=EG(eta=0.0),
            callbacks=[MultiplicativeReweighting(self.golden, meta["eta"])],
        )
        assert_weights(used, recorded["weights"])
        assert_parameters(recorder, recorded)

    def test_constrained_instance_weighting_is_absgd(self) -> None:
        """A derived run: exp(−f/λ) normalised in the batch."""
        recorded = self.golden.run("ciw_kl")
        lam = self.golden.meta["ciw_kl"]["lam"]
        recorder, used = replay(self.golden, **PLAIN_SGD, weighting=ABSGD(lam=-lam, gamma=1.0))
        assert_weights(used, recorded["weights"])
        assert_parameters(recorder, recorded)


def test_derived_runs_are_named_so() -> None:
    """What a docstring above or in test_golden_written calls derived is so, and nothing else is."""
    derived = {name for file in ("meta", "mwn", "term", "ohem", "eg") for name, meta in load(file).meta.items()
               if meta["kind"] == "derived"}  # fmt: skip
    written = {"hard_mining_ren", "spl_hard", "spl_linear", "ciw_alpha2", "ciw_alpha05"}
    assert derived == {*TestTerm.derived, "ohem_25", *TestEG.runs, "ciw_kl", *written}


def test_recorder_sees_every_step() -> None:
    recorder, used = replay(load("ohem"), **PLAIN_SGD, weighting="none")
    assert isinstance(recorder, Recorder) and len(recorder.states) == len(used) == 12

"""Member k of a pack of five is the network trained alone: with its own seed, rows, validation rows and numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import make_classification
from torch import Tensor, nn

from skreweight import ReweightedClassifier
from skreweight._pack.fit import Fits, fit_together
from skreweight.losses import LDAMLoss
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS, get_weighting

K, N_ROWS = 5, 150
BOUND = 1e-12


class Chained(MLP):
    """A chain of linear layers."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__(n_features, n_classes, hidden=(6, 4), activation="tanh")
        self.double()


class WithDropout(MLP):
    """A chain with masks."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__(n_features, n_classes, hidden=(6,), dropout=0.3)
        self.double()


class Overflowing(Chained):
    """The outputs of rows that begin with a large number overflow."""

    def forward(self, X: Tensor) -> Tensor:
        return super().forward(X) * torch.where(X[:, :1] > 1e6, torch.inf, 1.0)


class General(nn.Module):
    """BatchNorm and parameters of its own: what `torch.func` runs.

    No bias stands in front of the norm: its gradient is nothing but rounding, which Adam makes as large as any.
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(n_features, 6, bias=False), nn.BatchNorm1d(6)
        self.last, self.scale = nn.Linear(6, n_classes), nn.Parameter(torch.ones(n_classes))
        self.double()

    def forward(self, X: Tensor) -> Tensor:
        return self.last(torch.tanh(self.norm(self.first(X)))) * self.scale


# Numbers that members set each for itself: one per member.
NUMBERS: dict[str, dict[str, list[Any]]] = {
    "proportion": {"beta": [0.9, 0.99, 0.999, 0.5, 0.0]},
    "two-phase": {"lp_coef": [0.0, 1e-3, 1e-2, 0.1, 1e-4], "lp_norm": [2, 4, 3, 2, 1]},
    "ren": {"lp_coef": [0.0, 1e-3, 1e-2, 0.1, 1e-4]},
    "hu": {
        "decay": [10.0, 5.0, 1.0, 2.0, 3.0],
        "step_size": [1.0, 0.5, 0.1, 2.0, 0.3],
        "floor": [0.0, 1e-5, 1e-3, 0.0, 1e-4],
        "initial_weight": [0.0, 0.5, 1.0, 0.1, 0.2],
        "temperature": [1.0, 2.0, 3.0, 4.0, 5.0],
    },
    "ours": {
        "decay": [10.0, 5.0, 1.0, 2.0, 3.0],
        "initial_weight": [0.1, 0.5, 1.0, 0.1, 0.2],
        "polyak": [0.01, 0.5, 0.1, 5.0, 1.0],
        "damping": [0.1, 1.0, 0.01, 0.5, 0.2],
        "lp_coef": [0.0, 1e-3, 1e-2, 0.0, 1e-4],
    },
    "tau-norm": {"tau": [0.0, 0.5, 1.0, 1.5, 2.0]},
    "logit-adjustment": {"tau": [0.0, 0.5, 1.0, 1.5, 2.0]},
    "lws": {
        "lr": [0.01, 0.1, 0.2, 0.05, 0.5],
        "momentum": [0.0, 0.9, 0.5, 0.8, 0.95],
        "weight_decay": [0.0, 5e-4, 0.01, 0.1, 1e-3],
    },
    "absgd": {
        "lam": [1.0, 0.1, -2.0, float("inf"), 5.0],
        "gamma": [0.9, 0.5, 1.0, 0.3, 0.1],
        "alpha": [1.0, 0.5, 2.0, 1.0, 0.7],
    },
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "lr": 0.05},
    "adam": {"optimizer": torch.optim.Adam, "optimizer__weight_decay": 1e-3, "lr": 0.02},
}


def data(n_classes: int = 2) -> tuple[NDArray[Any], NDArray[Any]]:
    X, y = make_classification(
        N_ROWS, 5, n_informative=4, n_redundant=0, n_classes=n_classes, n_clusters_per_class=1,
        weights=[0.6, *[0.4 / (n_classes - 1)] * (n_classes - 1)], random_state=0,
    )  # fmt: skip
    return X, y


def rows() -> list[NDArray[np.int64]]:
    """Five samples of the rows, in which every class has as many rows: so have their validation rows."""
    _, y = data()
    chosen = []
    for k in range(K):
        generator = np.random.RandomState(k)
        parts = [generator.permutation(np.flatnonzero(y == c))[:n] for c, n in ((0, 70), (1, 45))]
        chosen.append(np.sort(np.concatenate(parts)))
    return chosen


def estimators(weighting: Any, *, numbers: dict[str, list[Any]] | None = None, **options: Any) -> list[Any]:
    base: dict[str, Any] = {
        "module": Chained, "warmup_epochs": 2, "max_epochs": 2, "batch_size": 32, "lr": 0.05, **options,
    }  # fmt: skip
    nets = []
    for k in range(K):
        own = {f"weighting__{name}": values[k] for name, values in (numbers or {}).items()}
        nets.append(ReweightedClassifier(weighting=weighting, random_state=10 + k, **base, **own))
    return nets


def together(nets: list[Any], chosen: list[NDArray[np.int64]], n_classes: int = 2, **extra: Any) -> Fits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_together(nets, *data(n_classes), chosen, **extra)


def alone(nets: list[Any], chosen: list[NDArray[np.int64]], n_classes: int = 2, **extra: Any) -> list[Any]:
    X, y = data(n_classes)
    weights = extra.get("sample_weight")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            clone(net).fit(X[own], y[own], None if weights is None else weights[own])
            for net, own in zip(nets, chosen, strict=True)
        ]


def assert_member(member: ReweightedClassifier, single: ReweightedClassifier, bound: float = BOUND) -> None:
    """Everything that a fit leaves behind."""
    for (name, a), b in zip(
        single.module_.state_dict().items(), member.module_.state_dict().values(), strict=True
    ):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= bound * max(1.0, float(a.abs().max())), name
    np.testing.assert_allclose(member.example_weights_, single.example_weights_, rtol=bound, atol=bound)
    for name, a in single.weighting_.state_dict().items():
        b = member.weighting_.state_dict()[name]
        assert a.shape == b.shape
        assert torch.allclose(a.double(), b.double(), rtol=bound, atol=bound), name
    for epoch, other in zip(single.history_, member.history_, strict=True):
        assert set(epoch) == set(other)
        for name, value in epoch.items():
            if name not in ("dur", "batches"):
                assert other[name] == pytest.approx(value, rel=1e-10, abs=1e-12), name
    for name in ("classes_", "class_counts_", "validation_indices_"):
        np.testing.assert_array_equal(getattr(member, name), getattr(single, name))
    assert member.n_features_in_ == single.n_features_in_
    assert member.stage_ == single.stage_
    for p, q in zip(single.module_.parameters(), member.module_.parameters(), strict=True):
        own, other = single.optimizer_.state.get(p, {}), member.optimizer_.state.get(q, {})
        assert own.keys() == other.keys()
        for key, value in own.items():
            if isinstance(value, Tensor):
                assert torch.allclose(value.double(), other[key].double(), rtol=1e-9, atol=bound), key


@pytest.mark.parametrize("weighted", [False, True], ids=["rows", "sample weights"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("module", [Chained, General], ids=["chain", "general"])
@pytest.mark.parametrize("keep_best", ["step", "epoch"])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_member_is_the_network_alone(
    weighting: str, keep_best: str, module: type[nn.Module], optimizer: str, weighted: bool
) -> None:
    options = {"module": module, "keep_best": keep_best, "validation_data": 8, **OPTIMIZERS[optimizer]}
    if module is General and weighting == "tau-norm":
        pytest.skip("something follows the last layer")
    if module is General and weighting == "crt":
        options["classifier"] = "last"
    nets = estimators(weighting, numbers=NUMBERS.get(weighting), **options)
    chosen = rows()
    extra = {"sample_weight": 0.5 + np.random.RandomState(0).rand(N_ROWS)} if weighted else {}
    singles = alone(nets, chosen, **extra)
    fits = together(nets, chosen, **extra)
    assert fits.errors == [None] * K
    assert fits.packs == [K]
    assert not fits.alone
    for member, single in zip(nets, singles, strict=True):
        assert_member(member, single)


@pytest.mark.parametrize(
    ("weighting", "options"),
    [
        ("hu", {"weighting__virtual_step": "optimizer", "weighting__normalization": "softmax"}),
        ("hu", {"weighting__virtual_batch_size": 8, "weighting__lp_coef": 0.01}),
        ("ours", {"weighting__curvature": "fisher", "weighting__n_constraint_steps": 2}),
        ("ours", {"weighting__curvature": "ggn-mc", "weighting__n_probes": 2}),
        ("ours", {"weighting__curvature": "hessian", "weighting__normalization": "softmax"}),
        ("ours", {"validation_batch_size": 5, "weighting__backtrack": False}),
        ("absgd", {"restart_stage_two": True, "class_weight": "balanced", "defer_class_weight": True}),
        ("none", {"criterion": LDAMLoss, "class_weight": "effective-number"}),
        ("none", {"iterator_train__drop_last": True, "optimizer__param_groups": [("*.bias", {"lr": 0.5})]}),
        ("none", {"module": WithDropout}),
        ("crt", {"module": WithDropout}),
        ("tau-norm", {}),
        ("logit-adjustment", {"weighting__tau": None}),
        ("meta-weight-net", {"class_weight": "balanced", "weighting__through_loss": True}),
        ("hu", {"sampling": "balanced", "stage_two_trainable": "classifier", "restart_stage_two": True}),
        ("absgd", {"sampling": "progressive", "stage_two_trainable": ["layers.2.*", "classifier"]}),
        (
            "none",
            {"module": General, "sampling": 0.5, "defer_sampling": True, "stage_two_trainable": ["last.*"]},
        ),
        ("ren", {"module": WithDropout}),
        ("ours", {"module": WithDropout}),
    ],
)
def test_settings(weighting: str, options: dict[str, Any]) -> None:
    """Dropout included: every member draws its masks as it would alone."""
    nets = estimators(weighting, **{"validation_data": 8, **options})
    chosen = rows()
    singles = alone(nets, chosen)
    fits = together(nets, chosen)
    assert fits.errors == [None] * K
    assert fits.packs == [K]
    for member, single in zip(nets, singles, strict=True):
        assert_member(member, single)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_three_classes(weighting: str) -> None:
    nets = estimators(weighting, numbers=NUMBERS.get(weighting), validation_data=4)
    chosen = [np.arange(N_ROWS)] * K
    singles = alone(nets, chosen, 3)
    assert together(nets, chosen, 3).packs == [K]
    for member, single in zip(nets, singles, strict=True):
        assert_member(member, single)


class TestStageOneIsShared:
    def test_by_all_that_agree_in_seed_and_rows(self) -> None:
        nets = [
            *[n.set_params(random_state=0) for n in estimators("absgd", numbers=NUMBERS["absgd"], validation_data=8)],
            *[n.set_params(random_state=0) for n in estimators("hu", numbers=NUMBERS["hu"], validation_data=8)],
            *[n.set_params(random_state=1) for n in estimators("absgd", numbers=NUMBERS["absgd"], validation_data=8)],
        ]  # fmt: skip
        chosen = [rows()[0]] * len(nets)
        singles = alone(nets, chosen)
        fits = together(nets, chosen)
        assert fits.shared == len(nets) - 2
        assert sorted(fits.packs) == [K, 2 * K]
        for member, single in zip(nets, singles, strict=True):
            assert_member(member, single)

    def test_in_packs_of_limited_size(self) -> None:
        nets = estimators("hu", numbers=NUMBERS["hu"], validation_data=8)
        chosen = rows()
        singles = alone(nets, chosen)
        fits = together(nets, chosen, max_members=2)
        assert fits.packs == [2, 2, 1]
        for member, single in zip(nets, singles, strict=True):
            assert_member(member, single)


class TestFailures:
    @pytest.mark.parametrize("reads", [True, False])
    def test_a_member_that_diverges_fails_alone(self, reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its parameters are those of its last good step, as alone; the others do not notice."""
        monkeypatch.setattr("skreweight._training.members_guard.reading_is_free", lambda device: reads)
        nets = estimators("absgd", validation_data=8, module=Overflowing, **OPTIMIZERS["adam"])
        X, y = data()
        X, y = np.vstack([X, np.full((1, 5), 1e7)]), np.append(y, 0)
        chosen = rows()
        frequent = np.flatnonzero(y[chosen[3]] == 0)[-1]
        chosen[3][frequent] = N_ROWS  # of no other member
        singles, errors = [], []
        for net, own in zip(nets, chosen, strict=True):
            single = clone(net)
            errors.append(None)
            try:
                single.fit(X[own], y[own])
            except ValueError as error:
                errors[-1] = str(error)
            singles.append(single)
        fits = fit_together(nets, X, y, chosen)
        assert [error is None for error in errors] == [k != 3 for k in range(K)]
        assert [error is None for error in fits.errors] == [k != 3 for k in range(K)]
        assert str(fits.errors[3]) == errors[3]
        for k in (0, 1, 2, 4):
            assert_member(nets[k], singles[k])
        for a, b in zip(singles[3].module_.parameters(), nets[3].module_.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

    def test_a_member_that_its_last_step_ruins_fails_alone(self) -> None:
        X, y = data()
        X, y = np.vstack([X, np.full((1, 5), 1e15)]), np.append(y, 0)
        chosen = [np.arange(N_ROWS) for _ in range(4)]
        chosen[2][np.flatnonzero(y[:N_ROWS] == 0)[0]] = N_ROWS  # of no other member
        nets = [
            ReweightedClassifier(
                MLP, weighting="none", optimizer=torch.optim.SGD, batch_size=-1, warmup_epochs=1, max_epochs=0,
                random_state=k,
            )
            for k in range(4)
        ]  # fmt: skip
        with pytest.raises(ValueError, match="Training ended in epoch 1 with a network") as alone:
            clone(nets[2]).fit(X[chosen[2]], y[chosen[2]])
        fits = fit_together(nets, X, y, chosen)
        assert not fits.alone
        assert [error is None for error in fits.errors] == [True, True, False, True]
        assert str(fits.errors[2]) == str(alone.value)

    def test_a_member_whose_weights_sum_to_nothing_warns_as_alone(self) -> None:
        """Every row of a tiny lam has next to no weight but the one with the largest loss."""
        X, y = data()
        nets = [
            ReweightedClassifier(
                weighting="absgd", weighting__lam=lam, weighting__max_jump=None, warmup_epochs=1, max_epochs=2,
                random_state=0,
            )
            for lam in (1e-6, 1.0)
        ]  # fmt: skip
        with pytest.warns(UserWarning, match="weight of next to 0") as alone:
            clone(nets[0]).fit(X, y)
        with pytest.warns(UserWarning, match="weight of next to 0") as packed:
            assert fit_together(nets, X, y, [np.arange(N_ROWS)] * 2).packs == [2]
        assert [str(w.message) for w in alone] == [str(w.message) for w in packed]

    def test_what_cannot_begin_is_told_apart(self) -> None:
        nets = estimators("absgd")
        nets[2].set_params(weighting__gamma=7.0)
        fits = together(nets, rows())
        assert "gamma" in str(fits.errors[2])
        assert [e is None for e in fits.errors] == [True, True, False, True, True]
        assert fits.packs == [4]


class FlatLogit(nn.Module):
    """One logit a row, without an axis for it."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(n_features, 1).double()

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.last(X).squeeze(-1)


class Logistic(nn.Module):
    """A criterion of the user's for one logit."""

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.softplus(outputs) - targets * outputs


@pytest.mark.parametrize("criterion", [Logistic, nn.BCEWithLogitsLoss])
@pytest.mark.parametrize("n_validation", [1, 9])
def test_flat_outputs_of_a_pack_are_rows_not_classes(criterion: type[nn.Module], n_validation: int) -> None:
    def made() -> list[Any]:
        options = {"module": FlatLogit, "criterion": criterion, "validation_data": n_validation}
        return estimators("logit-adjustment", numbers={"tau": [None] * K}, **options)

    nets = made()
    fits = together(nets, rows())
    assert fits.packs == [K]  # none failed and was fitted by itself
    for member, single in zip(nets, alone(made(), rows()), strict=True):
        assert_member(member, single)
        np.testing.assert_allclose(
            member.predict_proba(data()[0]), single.predict_proba(data()[0]), rtol=1e-10
        )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"callbacks": [torch]}, "callbacks"),
        ({"optimizer": torch.optim.LBFGS}, "LBFGS"),
        ({"on_nonfinite": "skip"}, "skip"),
        ({"diagnostics": True}, "diagnostics"),
        ({"iterator_train__batch_sampler": [[0, 1]]}, "iterator_train"),
    ],
)
def test_what_cannot_be_packed_is_fitted_alone(options: dict[str, Any], reason: str) -> None:
    from skreweight._pack.suited import why_alone

    assert reason in str(why_alone(estimators("none", **options)[0], data()[0]))


def test_modules_that_cannot_be_packed() -> None:
    from skreweight._pack.suited import why_module_alone

    assert "LSTM" in str(why_module_alone(nn.Sequential(nn.LSTM(2, 2))))
    assert "padding_idx" in str(why_module_alone(nn.Embedding(3, 2, padding_idx=0)))
    assert why_module_alone(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))) is None


def test_training_goes_on_from_a_member_as_from_the_network_alone() -> None:
    nets = estimators("ours", numbers=NUMBERS["ours"], validation_data=8)
    chosen, (X, y) = rows(), data()
    singles = alone(nets, chosen)
    together(nets, chosen)
    for net, single, own in zip(nets[:2], singles[:2], chosen[:2], strict=True):
        net.partial_fit(X[own], y[own])
        single.partial_fit(X[own], y[own])
        assert_member(net, single)


def test_every_number_of_the_registry_stacks() -> None:
    """A parameter that is no number, or None, must agree."""
    for name in WEIGHTINGS:
        kind = type(get_weighting(name))
        stacked = kind.stacked([get_weighting(name)] * 3, torch.zeros(()))
        assert stacked.get_params() == get_weighting(name).get_params()
    with pytest.raises(ValueError, match=r"must agree in normalization, got \['linear', 'softmax'\]"):
        get_weighting("hu").stacked(
            [get_weighting("hu"), get_weighting("hu", normalization="softmax")], torch.zeros(())
        )
    with pytest.raises(ValueError, match="must agree in max_jump"):
        get_weighting("absgd").stacked(
            [get_weighting("absgd"), get_weighting("absgd", max_jump=None)], torch.zeros(())
        )

"""Decoupled training as its authors' code ran it (classifier-balancing f162ade), replayed through the estimator.

``tests/data/golden_decoupled.npz`` holds numbers only: φ = tanh(W1 x + b1), logits W2 φ + b2, 64 rows of classes with
40, 18 and 6, batches of 16; parameters are those AFTER each step. ``golden_sampling.npz`` holds what the authors'
samplers drew, and with which chances.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from skreweight import ReweightedClassifier
from skreweight._rows.samplers import Sampler, class_shares
from skreweight.losses import FocalLoss, LDAMLoss, effective_number_weights, ldam_margins

DATA = Path(__file__).parent / "data"
GOLDEN = dict(np.load(DATA / "golden_decoupled.npz"))
DRAWN = dict(np.load(DATA / "golden_sampling.npz"))
META = json.loads(str(GOLDEN["meta_json"]))
X, Y, X_VAL, Y_VAL, X_TEST = (GOLDEN[f"problem/{name}"] for name in ("X", "y", "Xv", "yv", "Xt"))
NAMES = {"W1": "hidden.weight", "b1": "hidden.bias", "W2": "output.weight", "b2": "output.bias"}


class Net(nn.Module):
    """The recorded network, with a run's parameters at its start or where it was best."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, 16, dtype=torch.float64)
        self.output = nn.Linear(16, 3, dtype=torch.float64)
        self.load_state_dict({ours: torch.from_numpy(GOLDEN[f"{where}/{n}"]) for n, ours in NAMES.items()})

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.output(torch.tanh(self.hidden(X)))


class Batches:
    """The recorded batches, four an epoch."""

    def __init__(self, run: str) -> None:
        self.batches, self.epoch = GOLDEN[f"{run}/idx"].reshape(-1, 4, 16), 0

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self.batches[self.epoch]
        self.epoch += 1


class Recorder(Callback):
    """Parameters, scales and learning rates of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, np.ndarray]] = []

    def on_batch_begin(self, net, training=False, **kwargs):
        if training:
            self.lr = net.optimizer_.param_groups[0]["lr"]

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            state = net.module_.state_dict()
            found = {name: state[ours].clone().numpy() for name, ours in NAMES.items()}
            if "logit_scale" in net.weighting_.state_:
                found["scales"] = net.weighting_.state_["logit_scale"].clone().numpy()
            self.steps.append({**found, "lr": self.lr})


def replay(run: str, weighting: str, **settings: Any) -> tuple[ReweightedClassifier, Recorder]:
    recorder, n_epochs = Recorder(), META[run]["epochs"]
    cosine = LRScheduler(LambdaLR, lr_lambda=lambda e: (1 + math.cos(math.pi * (e + 1) / n_epochs)) / 2)
    clf = ReweightedClassifier(
        Net(f"{run}/start"),
        weighting=weighting,
        warmup_epochs=0,
        max_epochs=n_epochs,
        optimizer=torch.optim.SGD,
        lr=META[run]["lr"],
        optimizer__momentum=META[run]["momentum"],
        optimizer__weight_decay=META[run]["weight_decay"],
        iterator_train__batch_sampler=Batches(run),
        validation_data=(X_VAL, Y_VAL),
        callbacks=[recorder, cosine],
        **settings,
    )
    return clf.fit(X, Y), recorder


RUNS = {
    "stage1": ("none", {}),
    "joint_balanced": ("none", {}),
    "crt": ("crt", {"weighting__new_classifier": False}),
    "lws": ("lws", {}),
}


def test_every_run_is_here() -> None:
    assert set(RUNS) == set(META)


@pytest.mark.parametrize("run", RUNS)
def test_parameters_of_every_step(run: str) -> None:
    weighting, settings = RUNS[run]
    clf, recorder = replay(run, weighting, **settings)
    assert len(recorder.steps) == META[run]["steps"]
    for step, found in enumerate(recorder.steps):
        for name, value in found.items():
            np.testing.assert_allclose(
                value, GOLDEN[f"{run}/{name}"][step], rtol=1e-10, atol=1e-14, err_msg=f"{name}, step {step}"
            )
    np.testing.assert_allclose(clf.history[:, "valid_acc"], GOLDEN[f"{run}/val_acc"], rtol=1e-10)


@pytest.mark.parametrize("place", range(21))
def test_tau_norm(place: int) -> None:
    """Without the bias, at τ = 0 too."""
    tau = float(GOLDEN["tau/taus"][place])
    clf = ReweightedClassifier(
        Net("stage1/best"), weighting="tau-norm", weighting__tau=tau, warmup_epochs=0, max_epochs=0
    ).fit(X, Y)
    np.testing.assert_allclose(clf.decision_function(X_TEST), GOLDEN["tau/logits"][place], rtol=1e-10)
    np.testing.assert_array_equal(clf.predict(X_TEST), GOLDEN["tau/pred"][place])
    np.testing.assert_allclose(clf.features(X_TEST), GOLDEN["tau/features"], rtol=1e-10)


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("un", []),
        ("l2n", [Normalizer()]),
        ("cl2n", [StandardScaler(with_std=False), Normalizer()]),
    ],
)
def test_nearest_class_mean_is_scikit_learns_on_the_features(kind: str, steps: list[Any]) -> None:
    clf = ReweightedClassifier(Net("stage1/best"), weighting="none", warmup_epochs=0, max_epochs=0).fit(X, Y)
    nearest = make_pipeline(*steps, NearestCentroid()).fit(clf.features(X), Y)
    np.testing.assert_allclose(nearest[-1].centroids_, GOLDEN[f"ncm/{kind}cs"], rtol=1e-10)
    np.testing.assert_array_equal(nearest.predict(clf.features(X_TEST)), GOLDEN[f"ncm/{kind}_l2/pred"])


# ---------------------------------------------------------------- samplers

CODES = torch.from_numpy(DRAWN["problem/y"])
COUNTS = torch.bincount(CODES).double()


@pytest.mark.parametrize(
    ("name", "sampling"), [("square_root_by_class", "sqrt"), ("balanced_by_class", "balanced")]
)
def test_chances_of_the_classes(name: str, sampling: str) -> None:
    for of_epoch in DRAWN[f"{name}/p"]:
        np.testing.assert_allclose(class_shares(COUNTS, sampling), of_epoch, rtol=1e-10)


def test_chances_of_progressive_sampling() -> None:
    recorded = DRAWN["progressive/p"]
    for epoch, of_epoch in enumerate(recorded):
        shares = class_shares(COUNTS, "progressive", epoch / (len(recorded) - 1))
        np.testing.assert_allclose(shares, of_epoch, rtol=1e-10)


def test_chances_of_schedules_that_are_no_sampling_of_ours() -> None:
    """In no published configuration: a ramp that begins again or turns round, and roots that grow by the epoch."""
    ramp = [0.0, 0.5, 1.0]
    for name, way in (("progressive_cycle1", 3 * ramp), ("progressive_cycle2", ramp + ramp[::-1] + ramp)):
        for progress, of_epoch in zip(way, DRAWN[f"{name}/p"], strict=True):
            np.testing.assert_allclose(class_shares(COUNTS, "progressive", progress), of_epoch, rtol=1e-10)
    for name, roots in (("root_exp", (1, 2, 4)), ("root_linear", (1, 2, 3))):
        for root, of_epoch in zip(np.repeat(roots, 2), DRAWN[f"{name}/p"], strict=True):
            np.testing.assert_allclose(class_shares(COUNTS, 1 / root), of_epoch, rtol=1e-10)


@pytest.mark.parametrize("counts", ["tiny", "cifar10_lt100", "binary"])
def test_numbers_by_class(counts: str) -> None:
    """The authors' LDAM margins; effective numbers were retyped from a function of theirs."""
    n = torch.from_numpy(DRAWN[f"class/{counts}/counts"]).double()
    for beta in ("0", "0.9", "0.99", "0.999", "0.9999"):
        expected = DRAWN[f"class/{counts}/effective_number_{beta}"]
        np.testing.assert_allclose(effective_number_weights(n, float(beta)), expected, rtol=1e-10)
    np.testing.assert_allclose(ldam_margins(n), DRAWN[f"class/{counts}/ldam_margins"], rtol=1e-10)


def test_losses_of_the_authors() -> None:
    z, y = (torch.from_numpy(DRAWN[f"loss/{name}"]) for name in ("logits", "targets"))
    counts = torch.from_numpy(DRAWN["class/tiny/counts"])
    c = torch.from_numpy(DRAWN["class/tiny/effective_number_0.9999"])[y]
    ldam, focal = LDAMLoss(counts, reduction="none").double()(z, y), FocalLoss(1.0, reduction="none")(z, y)
    ce = nn.functional.cross_entropy(z, y, reduction="none")
    for found, name in (
        (ldam.mean(), "ldam"),
        ((c * ldam).sum() / c.sum(), "ldam_cb"),
        (focal.mean(), "focal_gamma1"),
        (((1 - (-c * ce).exp()) * c * ce).mean(), "focal_gamma1_cb"),  # p from the weighted cross-entropy
    ):
        np.testing.assert_allclose(found, DRAWN[f"loss/{name}"], rtol=1e-10, err_msg=name)


@pytest.mark.parametrize(
    ("name", "sampling"), [("square_root/p", "sqrt"), ("effective_number/weights", "effective-number")]
)
def test_chances_of_the_rows(name: str, sampling: str) -> None:
    expected = Sampler(CODES, class_shares(COUNTS, sampling)).expected()
    for of_epoch in np.atleast_2d(DRAWN[name]):
        np.testing.assert_allclose(expected, 64 * of_epoch / of_epoch.sum(), rtol=1e-10)


@pytest.mark.parametrize("name", ["class_aware_1", "class_aware_4"])
def test_counts_of_class_aware_sampling(name: str) -> None:
    """As many rows of every class, none a second time before all of its class came once: theirs and ours."""
    theirs = np.stack([np.bincount(rows, minlength=64) for rows in DRAWN[f"{name}/rows"]]).cumsum(0)
    torch.manual_seed(0)
    ours = np.stack(
        [np.bincount(Sampler(CODES, class_shares(COUNTS, "balanced"))(), minlength=64) for _ in range(3)]
    )
    for code in range(3):
        mine = (code == CODES).numpy()
        # Their cycles go on from epoch to epoch, ours begin anew.
        assert (np.ptp(theirs[:, mine], axis=1) <= 1).all()
        assert (np.ptp(ours[:, mine], axis=1) <= 1).all()
        assert (theirs[:, mine].sum(1) == [40, 80, 120]).all()
        assert (np.abs(ours[:, mine].sum(1) - 64 / 3) < 1).all()

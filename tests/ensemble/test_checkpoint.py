"""An ensemble that was cut off goes on to the bit, packs and members by themselves included."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight._net.checkpoint import CheckpointFile
from skreweight._pack.fit import fit_together
from tests.cut_off import Cut, cut_after

GENERATOR = np.random.default_rng(0)
Y = (GENERATOR.random(60) < 0.3).astype(int)
X = GENERATOR.normal(size=(60, 3)) + Y[:, None]


def member(weighting, **params):
    defaults = dict(warmup_epochs=2, max_epochs=2, batch_size=16, module__hidden=(4,), device="cpu")
    return ReweightedClassifier(weighting=weighting, **(defaults | params))


ENSEMBLES = {
    "recipe": lambda: ReweightedEnsembleClassifier(n_steps=40, n_folds=2, random_state=0),
    "several packs": lambda: ReweightedEnsembleClassifier(
        n_steps=10, n_folds=2, max_pack_size=2, random_state=0
    ),
    "two kinds": lambda: ReweightedEnsembleClassifier(
        [member("hu"), member("absgd", warmup_epochs=0, module__dropout=0.2)], n_folds=2, random_state=0
    ),
    "a fresh optimiser": lambda: ReweightedEnsembleClassifier(
        member("ours", restart_stage_two=True, optimizer=torch.optim.SGD), n_folds=2, random_state=0
    ),
    "corrections": lambda: ReweightedEnsembleClassifier(member("lws"), n_folds=2, random_state=0),
    "one after another": lambda: ReweightedEnsembleClassifier(
        member("none", optimizer=torch.optim.Adadelta), n_folds=2, random_state=0
    ),
}


def assert_same(found, expected):
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(found.oof_proba_, expected.oof_proba_)
    np.testing.assert_array_equal(found.member_weights_, expected.member_weights_)
    for net, other in zip(found.estimators_, expected.estimators_, strict=True):
        for row, own in zip(net.history_, other.history_, strict=True):
            assert row["train_loss"] == own["train_loss"]
            assert row["stage"] == own["stage"]


@pytest.mark.parametrize("name", ENSEMBLES)
def test_what_was_cut_off_goes_on_to_the_bit(name, tmp_path, monkeypatch):
    ensemble = ENSEMBLES[name]()
    expected = clone(ensemble).fit(X, Y)
    ensemble.set_params(checkpoint=tmp_path / "fit.pt")
    written = cut_after(10**6, monkeypatch)
    clone(ensemble).fit(X, Y)
    n_epochs = len(written)
    assert n_epochs >= 4
    for n in sorted({1, 2, 3, n_epochs // 2, n_epochs - 1, n_epochs}):
        (tmp_path / "fit.pt").unlink()
        cut_after(n, monkeypatch)
        with pytest.raises(Cut):
            clone(ensemble).fit(X, Y)
        assert_same(clone(ensemble).fit(X, Y), expected)
    assert_same(clone(ensemble).fit(X, Y), expected)  # the finished one


def test_a_member_that_failed_stays_failed(tmp_path, monkeypatch):
    """The guard's memory of who failed, and of the last good parameters, is in the file."""
    rows = [np.arange(50), np.arange(5, 55), np.arange(10, 60)]

    def fitted(file):
        rates = [0.1, 1e25, 0.1]
        nets = [
            member("none", random_state=k, lr=lr, max_epochs=4, optimizer=torch.optim.SGD)
            for k, lr in enumerate(rates)
        ]
        fits = fit_together(nets, X.astype(np.float32), Y, rows, checkpoint=file)
        return nets, [None if e is None else str(e) for e in fits.errors], fits

    expected, errors, fits = fitted(None)
    assert fits.packs
    assert errors[1] is not None
    assert errors[0] is None
    file = CheckpointFile(tmp_path / "fit.pt")
    file.belongs_to({"a": "b"}, {})
    cut_after(3, monkeypatch)
    with pytest.raises(Cut):
        fitted(file)
    nets, again, _ = fitted(CheckpointFile(tmp_path / "fit.pt"))
    assert again == errors
    for net, other in zip(nets, expected, strict=True):
        for name, tensor in net.module_.state_dict().items():
            assert torch.equal(tensor, other.module_.state_dict()[name])


def test_without_a_seed_the_folds_of_the_file_are_dealt(tmp_path, monkeypatch):
    ensemble = ENSEMBLES["recipe"]().set_params(random_state=None, checkpoint=tmp_path / "fit.pt")
    cut_after(2, monkeypatch)
    with pytest.raises(Cut):
        clone(ensemble).fit(X, Y)
    first = clone(ensemble).fit(X, Y)
    assert_same(clone(ensemble).fit(X, Y), first)
    np.testing.assert_array_equal(clone(ensemble).fit(X, Y).folds_, first.folds_)


@pytest.mark.parametrize(
    ("what", "params"),
    [
        ("n_folds", {"n_folds": 3}),
        ("estimator__lr", {"estimator__lr": 0.5}),
        ("random_state", {"random_state": 1}),
    ],
)
def test_another_fit_is_refused(what, params, tmp_path):
    ensemble = ReweightedEnsembleClassifier(
        member("none"), n_folds=2, checkpoint=tmp_path / "fit.pt", random_state=0
    )
    clone(ensemble).fit(X, Y)
    with pytest.raises(ValueError, match=rf"another fit, which differs in {what} \("):
        clone(ensemble).set_params(**params).fit(X, Y)
    with pytest.raises(ValueError, match="another fit, which differs in X"):
        clone(ensemble).fit(X[::-1], Y)
    clone(ensemble).set_params(decision="f1_macro").fit(X, Y)  # chosen after training


def test_checkpoints_of_members_are_refused(tmp_path):
    ensemble = ReweightedEnsembleClassifier(member("none", checkpoint=tmp_path / "fit.pt"), n_folds=2)
    with pytest.raises(ValueError, match="checkpoint of the estimator is set"):
        ensemble.fit(X, Y)

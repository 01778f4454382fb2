"""Checkpoints: what was cut off goes on bit for bit, what is of another fit is refused, what was written stays."""

import re
import resource
import signal

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LRScheduler
from torch import nn

from skreweight import ReweightedClassifier
from skreweight._net.checkpoint import CheckpointFile
from tests import cut_off
from tests.cut_off import Cut

GENERATOR = np.random.default_rng(0)
Y = (GENERATOR.random(90) < 0.25).astype(int)
X = (GENERATOR.normal(size=(90, 4)) + Y[:, None]).astype(np.float32)


@pytest.fixture
def cut_after(monkeypatch):
    """Return a function that lets the n-th writing from now on be the last thing that happens."""
    return lambda n: cut_off.cut_after(n, monkeypatch)


def classifier(weighting="hu", **params):
    defaults = dict(
        warmup_epochs=2,
        max_epochs=3,
        batch_size=32,
        lr=0.05,
        validation_data=3,
        module__hidden=(5,),
        random_state=0,
        device="cpu",
    )
    return ReweightedClassifier(weighting=weighting, **(defaults | params))


def assert_same(found, expected):
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
    np.testing.assert_array_equal(found.example_weights_, expected.example_weights_)
    for row, other in zip(found.history_, expected.history_, strict=True):
        assert {k: v for k, v in row.items() if k != "dur"} == {k: v for k, v in other.items() if k != "dur"}
    for name, state in expected.progress_.random_state.items():
        assert torch.equal(found.progress_.random_state[name], state)
    assert str(found.optimizer_.state_dict()) == str(expected.optimizer_.state_dict())
    assert {k: str(v) for k, v in found.weighting_.state_dict().items()} == {
        k: str(v) for k, v in expected.weighting_.state_dict().items()
    }
    assert found.stage_ == expected.stage_


VARIANTS = {
    "plain": {},
    "dropout and schedules": dict(
        module__dropout=0.3, restart_stage_two=True, callbacks=[("lr", LRScheduler("StepLR", step_size=2))]
    ),
    "best step": dict(keep_best="step", validation_batch_size=2, class_weight="balanced"),
    "sampling": dict(
        sampling="progressive", diagnostics=True, optimizer=torch.optim.SGD, optimizer__momentum=0.9
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("weighting", ["none", "ours", "absgd", "tau-norm"])
@pytest.mark.parametrize("epochs", [1, 2, 4, 5])
def test_what_was_cut_off_goes_on_to_the_bit(weighting, variant, epochs, tmp_path, cut_after):
    net = classifier(weighting, **VARIANTS[variant])
    expected = clone(net).fit(X, Y)
    net.set_params(checkpoint=tmp_path / "fit.pt")
    cut_after(epochs)
    with pytest.raises(Cut):
        clone(net).fit(X, Y)
    assert_same(clone(net).fit(X, Y), expected)
    assert_same(clone(net).fit(X, Y), expected)  # the finished model


@pytest.mark.parametrize(
    "weighting", ["two-phase", "ren", "hu", "meta", "meta-weight-net", "crt", "lws", "eg", "term"]
)
def test_every_state_is_in_it(weighting, tmp_path, cut_after):
    net = classifier(weighting, checkpoint=tmp_path / "fit.pt")
    expected = clone(net).set_params(checkpoint=None).fit(X, Y)
    cut_after(3)
    with pytest.raises(Cut):
        clone(net).fit(X, Y)
    assert_same(clone(net).fit(X, Y), expected)


class BatchNormed(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 4), nn.BatchNorm1d(4), nn.Linear(4, n_classes))
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.seen += 1
        return self.layers(x) + 1e-3 * self.seen


def test_buffers_that_no_state_dict_has_are_in_it(tmp_path, cut_after):
    net = classifier("none", module=BatchNormed, checkpoint=tmp_path / "fit.pt", validation_data=None)
    del net.module__hidden
    net._params_to_validate.discard("module__hidden")
    expected = clone(net).set_params(checkpoint=None).fit(X, Y)
    cut_after(3)
    with pytest.raises(Cut):
        clone(net).fit(X, Y)
    found = clone(net).fit(X, Y)
    assert torch.equal(found.module_.seen, expected.module_.seen)
    assert_same(found, expected)


def test_early_stopping_goes_on_and_stays_stopped(tmp_path, cut_after):
    net = classifier("none", max_epochs=8, callbacks=[("stop", EarlyStopping(patience=2, threshold=10))])
    expected = clone(net).fit(X, Y)
    assert len(expected.history_) < 10
    net.set_params(checkpoint=tmp_path / "fit.pt")
    cut_after(len(expected.history_) - 1)
    with pytest.raises(Cut):
        clone(net).fit(X, Y)
    assert_same(clone(net).fit(X, Y), expected)
    assert_same(clone(net).fit(X, Y), expected)


def test_without_a_seed_the_one_in_the_file_goes_on(tmp_path, cut_after):
    net = classifier("hu", random_state=None, checkpoint=tmp_path / "fit.pt")
    cut_after(2)
    with pytest.raises(Cut):
        clone(net).fit(X, Y)
    first = clone(net).fit(X, Y)
    assert_same(clone(net).fit(X, Y), first)


def test_it_is_written_every_so_many_epochs_and_at_the_end(tmp_path, monkeypatch):
    epochs = []
    real = CheckpointFile.write

    def write(file, number, state):
        epochs.append(state["training"]["progress"]["epochs_done"])
        real(file, number, state)

    monkeypatch.setattr(CheckpointFile, "write", write)
    classifier(checkpoint=str(tmp_path / "new" / "fit.pt"), checkpoint_every=2).fit(X, Y)
    assert epochs == [2, 4, 5]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["fit.pt"]


def test_a_process_that_does_not_write_reads(tmp_path):
    file = tmp_path / "fit.pt"
    CheckpointFile(file, writes=False).write(0, {"a": 1})
    assert not file.exists()


OTHER = {
    "X": lambda net: (net, X + 1, Y, None),
    "y": lambda net: (net, X, np.where(np.arange(90) == np.flatnonzero(Y)[0], 0, Y), None),
    "sample_weight": lambda net: (net, X, Y, np.linspace(1, 2, 90)),
    "lr (0.05 in the file, 0.1 now)": lambda net: (net.set_params(lr=0.1), X, Y, None),
    "weighting__step_size": lambda net: (net.set_params(weighting__step_size=0.5), X, Y, None),
    "module__hidden": lambda net: (net.set_params(module__hidden=(6,)), X, Y, None),
    "callbacks": lambda net: (net.set_params(callbacks=[LRScheduler("StepLR", step_size=1)]), X, Y, None),
    "random_state": lambda net: (net.set_params(random_state=1), X, Y, None),
}


@pytest.mark.parametrize("what", OTHER)
def test_another_fit_is_refused_and_the_file_stays(what, tmp_path):
    net = classifier(checkpoint=tmp_path / "fit.pt", max_epochs=1)
    fitted = clone(net).fit(X, Y)
    before = (tmp_path / "fit.pt").read_bytes()
    other, x, y, weights = OTHER[what](clone(net))
    with pytest.raises(ValueError, match=f"another fit.*{re.escape(what)}.*delete the file"):
        other.fit(x, y, sample_weight=weights)
    assert not other.initialized_
    assert (tmp_path / "fit.pt").read_bytes() == before
    assert_same(clone(net).set_params(verbose=0, checkpoint_every=3).fit(X, Y), fitted)


def test_a_splitter_that_draws_anew_is_refused(tmp_path):
    net = classifier("none", checkpoint=tmp_path / "fit.pt", validation_data=StratifiedKFold(3, shuffle=True))
    clone(net).fit(X, Y)
    with pytest.raises(ValueError, match="the validation rows"):
        clone(net).fit(X, Y)


def test_fifty_torn_files_are_refused_with_one_sentence(tmp_path):
    file = tmp_path / "fit.pt"
    net = classifier(checkpoint=file, max_epochs=1)
    net.fit(X, Y)
    whole = file.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 50).astype(int):
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"is no checkpoint of skreweight, or is cut short.*Delete it"):
            clone(net).fit(X, Y)


@pytest.mark.parametrize("content", [b"hello", {"a": 1}, torch.ones(2)])
def test_foreign_files_are_refused(content, tmp_path):
    file = tmp_path / "fit.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match="is no checkpoint of skreweight"):
        classifier(checkpoint=file).fit(X, Y)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        classifier(checkpoint=tmp_path).fit(X, Y)


@pytest.fixture
def small_disk():
    """Let no file become larger than some kilobytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_an_error_and_the_old_file_stays(tmp_path, small_disk, cut_after):
    net = classifier(checkpoint=tmp_path / "fit.pt")
    expected = clone(net).set_params(checkpoint=None).fit(X, Y)
    cut_after(2)
    with pytest.raises(Cut):
        clone(net).fit(X, Y)
    before = (tmp_path / "fit.pt").read_bytes()
    small_disk(len(before) // 2)
    with pytest.raises(OSError, match=r"could not be written.*left as it was"):
        clone(net).fit(X, Y)
    small_disk(-1)
    assert (tmp_path / "fit.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["fit.pt"]
    assert_same(clone(net).fit(X, Y), expected)


class Note(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("odd", object())


def test_a_history_that_cannot_be_held_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"entry 'odd' of the history.*record numbers"):
        classifier(checkpoint=tmp_path / "fit.pt", callbacks=[Note()]).fit(X, Y)


def test_going_on_takes_no_notice_of_it(tmp_path):
    net = classifier(checkpoint=tmp_path / "fit.pt").fit(X, Y)
    before = (tmp_path / "fit.pt").read_bytes()
    assert len(net.partial_fit(X, Y).history_) == 8
    assert (tmp_path / "fit.pt").read_bytes() == before


def test_bad_parameters_are_refused():
    with pytest.raises(ValueError, match="checkpoint_every"):
        classifier(checkpoint_every=0).fit(X, Y)
    with pytest.raises(ValueError, match="'checkpoint'"):
        classifier(checkpoint=3).fit(X, Y)


# ---------------------------------------------------------------- skorch's Checkpoint


def with_checkpoint(folder):
    callback = Checkpoint(monitor=None, dirname=str(folder), f_weighting="weighting.pt")
    return classifier("hu", callbacks=[callback]), callback


@pytest.mark.parametrize("n_saves", range(11, 15))
def test_a_mixture_of_epochs_is_refused(n_saves, tmp_path, monkeypatch):
    """Four files and the history are written one after another: cut off in the third epoch."""
    whole, _ = with_checkpoint(tmp_path / "whole")
    whole.fit(X, Y)
    net, callback = with_checkpoint(tmp_path / "cut")
    saves, real = [], torch.save

    def save(*args, **kwargs):
        saves.append(args)
        if len(saves) == n_saves - 2:
            raise Cut
        real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(Cut):
            net.fit(X, Y)
    loaded = clone(net).set_params(callbacks=None)
    if n_saves == 11:  # nothing of the third epoch was written yet
        loaded.load_params(checkpoint=callback)
        loaded.partial_fit(X, Y)
        np.testing.assert_array_equal(loaded.predict_proba(X), whole.predict_proba(X))
        return
    with pytest.raises(ValueError, match=r"not of one moment.*epochs: 2 and 3"):
        loaded.load_params(checkpoint=callback)
    assert not loaded.initialized_


def test_a_torn_file_changes_nothing_in_place(tmp_path):
    net, callback = with_checkpoint(tmp_path)
    net.fit(X, Y)
    other = classifier("hu", random_state=3).fit(X, Y)
    before = other.predict_proba(X)
    state = other.progress_.state_dict()
    for name in ("weighting.pt", "optimizer.pt", "params.pt"):
        file = tmp_path / name
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises((RuntimeError, ValueError, OSError)):
            other.load_params(checkpoint=callback)
        file.write_bytes(whole)
        np.testing.assert_array_equal(other.predict_proba(X), before)
        assert str(other.progress_.state_dict()) == str(state)


def test_skorchs_checkpoint_keeps_the_old_files_on_a_full_disk_and_says_so(tmp_path, small_disk):
    net, _ = with_checkpoint(tmp_path)
    net.set_params(max_epochs=1).fit(X, Y)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    small_disk(1000)
    try:
        with pytest.warns(UserWarning, match="was not saved, what was there is left"):
            clone(net).fit(X, Y)
    finally:
        small_disk(-1)
    after = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert after["params.pt"] == before["params.pt"]
    assert after.keys() == before.keys()

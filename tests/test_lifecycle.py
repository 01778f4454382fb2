"""Copies, files, checkpoints and interruptions: training goes on, and predictions are found again."""

import copy
import io
import os
import pickle
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LoadInitState, LRScheduler
from skorch.exceptions import DeviceWarning
from torch import nn

from skreweight import ReweightedClassifier
from skreweight.losses import LDAMLoss
from skreweight.weighting import WEIGHTINGS, Hu

X, CODES = make_classification(90, 5, n_informative=4, n_redundant=0, weights=[0.75], random_state=0)
X = X.astype(np.float32)
Y = np.array(["common", "rare"])[CODES]
ALL = pytest.mark.parametrize("weighting", WEIGHTINGS)
N_WARMUP, N_EPOCHS = 2, 3


def classifier(weighting="hu", **parameters):
    defaults = {
        "module__hidden": (6,),
        "warmup_epochs": N_WARMUP,
        "max_epochs": N_EPOCHS,
        "batch_size": 32,
        "validation_data": 4,
        "random_state": 3,
        "lr": 1e-2,
    }
    return ReweightedClassifier(weighting=weighting, **{**defaults, **parameters})


def parameters_of(net):
    return [p.detach().clone() for p in net.module_.parameters()]


def assert_same(first, second):
    """Predictions, weights and parameters are equal bit for bit."""
    for a, b in zip(parameters_of(first), parameters_of(second), strict=True):
        assert torch.equal(a, b)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))
    np.testing.assert_array_equal(first.example_weights_, second.example_weights_)
    np.testing.assert_array_equal(first.validation_indices_, second.validation_indices_)
    np.testing.assert_array_equal(first.classes_, second.classes_)


class At(Callback):
    """Does something once, at the end of an epoch (or in the middle of it)."""

    def __init__(self, epoch, action, *, batch=None):
        self.epoch, self.action, self.batch = epoch, action, batch

    def on_epoch_end(self, net, **kwargs):
        if self.batch is None and len(net.history) == self.epoch:
            self.action(net)

    def on_batch_end(self, net, training=False, **kwargs):
        if self.batch is not None and training and len(net.history) == self.epoch:
            self.seen_ = getattr(self, "seen_", 0) + 1
            if self.seen_ == self.batch:
                self.action(net)


def interrupt(net):
    raise KeyboardInterrupt


# ---------------------------------------------------------------- copies


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "cloudpickle": lambda net: cloudpickle.loads(cloudpickle.dumps(net)),
    "joblib": lambda net: _through_joblib(net),
}


def _through_joblib(net):
    file = io.BytesIO()
    joblib.dump(net, file)
    file.seek(0)
    return joblib.load(file)


@ALL
def test_copies_predict_the_same_and_train_on_the_same(weighting):
    net = classifier(weighting).fit(X, Y)
    copies = [make(net) for make in COPIES.values()]
    for other in copies:
        assert_same(net, other)
        assert len(other.history_) == len(net.history_)
    net.partial_fit(X, Y)
    for other in copies:
        assert_same(net, other.partial_fit(X, Y))


@pytest.mark.parametrize("weighting", ["hu", Hu, Hu(decay=5.0)])
def test_clone_is_unfitted_with_equal_parameters(weighting):
    net = classifier(weighting, weighting__floor=1e-4).fit(X, Y)
    other = clone(net)
    assert not other.initialized_
    assert not hasattr(other, "example_weights_")
    assert str(other) == str(net)
    assert other.get_params()["weighting__floor"] == 1e-4
    assert_same(net, other.fit(X, Y))


def test_pickle_of_an_unfitted_estimator():
    net = pickle.loads(pickle.dumps(classifier("ours", weighting__lp_norm=4)))
    assert net.get_params()["weighting__lp_norm"] == 4
    net.fit(X, Y)


@pytest.mark.slow
def test_pickle_in_another_process(tmp_path: Path):
    net = classifier("ours").fit(X, Y)
    joblib.dump(net, tmp_path / "net.joblib")
    np.save(tmp_path / "X.npy", X)
    code = (
        "import joblib, numpy as np, sys\n"
        "folder = sys.argv[1]\n"
        "net = joblib.load(folder + '/net.joblib')\n"
        "np.savez(folder + '/out.npz', p=net.predict_proba(np.load(folder + '/X.npy')), w=net.example_weights_)\n"
    )
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(out["p"], net.predict_proba(X))
    np.testing.assert_array_equal(out["w"], net.example_weights_)


@ALL
@pytest.mark.parametrize("epoch", [1, 4])
@pytest.mark.filterwarnings("ignore:.* corrects the logits at the end of training")
def test_a_pickle_from_the_middle_of_training_goes_on_exactly(weighting, epoch):
    pickles = []
    take = At(epoch, lambda net: pickles.append(cloudpickle.dumps(net)))
    whole = classifier(weighting, callbacks=[take]).fit(X, Y)
    loaded = pickle.loads(pickles[0])
    assert set(loaded.predict(X)) <= {"common", "rare"}  # not the codes that callbacks see
    assert_same(whole, loaded.partial_fit(X, Y))


def test_a_model_trained_on_a_gpu_loads_without_one(monkeypatch):
    net = classifier("hu", device="auto").fit(X, Y)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)  # as on the machine that trained it
        stored = pickle.dumps(net)
    loaded = pickle.loads(stored)
    assert loaded.get_params()["device"] == "auto"
    assert loaded.device == "cuda" if torch.cuda.is_available() else loaded.device == "cpu"
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


@pytest.fixture
def written_on_a_gpu(monkeypatch):
    """Files are written as a machine with a GPU writes them: torch notes of every storage that it lies there."""

    @contextmanager
    def writing():
        with monkeypatch.context() as patch:
            patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
            yield

    return writing


without_a_gpu = pytest.mark.skipif(
    torch.cuda.is_available(), reason="the file is loaded where there is no GPU"
)


@without_a_gpu
def test_what_a_gpu_wrote_needs_one_where_nobody_maps_it(written_on_a_gpu):
    with written_on_a_gpu():
        stored = pickle.dumps(torch.ones(2))
    with pytest.raises(RuntimeError, match="CUDA device"):
        pickle.loads(stored)


@ALL
@without_a_gpu
@pytest.mark.parametrize("dump", [pickle.dumps, cloudpickle.dumps])
def test_a_pickle_written_on_a_gpu_loads_without_one(weighting, dump, written_on_a_gpu):
    net = classifier(weighting, device="auto", optimizer=torch.optim.Adam).fit(X, Y)
    with written_on_a_gpu():
        stored = dump(net)
    loaded = pickle.loads(stored)
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))
    assert_same(net.partial_fit(X, Y), loaded.partial_fit(X, Y))


@ALL
@without_a_gpu
def test_parameters_written_on_a_gpu_load_without_one(weighting, tmp_path, written_on_a_gpu):
    net = classifier(weighting, device="auto").fit(X, Y)
    with written_on_a_gpu():
        names = saved(net, tmp_path)
    with pytest.raises(RuntimeError, match="CUDA device"):
        torch.load(names["f_optimizer"])
    loaded = classifier(weighting, device="auto")
    loaded.load_params(**names)
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))
    assert_same(net.partial_fit(X, Y), loaded.partial_fit(X, Y))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the warning comes where there is no GPU")
def test_a_model_that_asked_for_cuda_loads_without_it_and_says_so():
    net = classifier("absgd").fit(X, Y)
    net.device = "cuda"
    stored = pickle.dumps(net)
    with pytest.warns(DeviceWarning, match="cpu"):
        loaded = pickle.loads(stored)
    assert str(loaded.device) == "cpu"
    net.device = "cpu"
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


# ---------------------------------------------------------------- save_params and load_params


FILES = ("f_params", "f_optimizer", "f_history", "f_weighting")


def saved(net, folder, files=FILES):
    names = {f: str(folder / (f + (".json" if f == "f_history" else ".pt"))) for f in files}
    net.save_params(**names)
    return names


@ALL
@pytest.mark.parametrize("keep_best", ["epoch", pytest.param("step", marks=pytest.mark.slow), False])
@pytest.mark.parametrize("epoch", [1, 4], ids=["stage 1", "stage 2"])
def test_partial_fit_goes_on_exactly_from_a_checkpoint(weighting, keep_best, epoch, tmp_path):
    files = {}
    take = At(epoch, lambda net: files.update(saved(net, tmp_path)))
    whole = classifier(weighting, keep_best=keep_best, callbacks=[take]).fit(X, Y)
    resumed = classifier(weighting, keep_best=keep_best, random_state=11)
    resumed.load_params(**files)
    assert len(resumed.history_) == epoch
    assert_same(whole, resumed.partial_fit(X, Y))
    columns = ["stage", "train_loss", "valid_loss", "valid_acc", "valid_loss_best"]
    pd.testing.assert_frame_equal(whole.history_frame()[columns], resumed.history_frame()[columns])


def test_a_checkpoint_at_the_end_of_stage_one_and_a_restart(tmp_path):
    files = {}
    take = At(N_WARMUP, lambda net: files.update(saved(net, tmp_path)))
    whole = classifier("hu", restart_stage_two=True, callbacks=[take]).fit(X, Y)
    resumed = classifier("hu", restart_stage_two=True)
    resumed.load_params(**files)
    assert_same(whole, resumed.partial_fit(X, Y))


@ALL
def test_save_params_of_a_finished_fit(weighting, tmp_path):
    net = classifier(weighting).fit(X, Y)
    files = saved(net, tmp_path)
    fresh = classifier(weighting, random_state=11)
    fresh.load_params(**files)
    assert_same(net, fresh)
    assert fresh.get_params()["device"] == "auto"
    assert_same(net.partial_fit(X, Y), fresh.partial_fit(X, Y))


def test_load_params_into_an_initialized_net_and_file_objects():
    net = classifier("hu").fit(X, Y)
    files = {name: io.BytesIO() for name in ("f_params", "f_optimizer", "f_weighting")}
    net.save_params(**files)
    fresh = classifier("hu", module__n_features=5, module__n_classes=2).initialize()
    unborn = classifier("hu")
    for other in (fresh, unborn):
        for file in files.values():
            file.seek(0)
        other.load_params(**files)
        assert_same(net, other)


def test_what_was_learned_of_the_data_is_loaded_too(tmp_path):
    frame = pd.DataFrame(X, columns=list("abcde"))
    net = classifier("hu", criterion=LDAMLoss).fit(frame, CODES.astype(bool))
    fresh = classifier("hu", criterion=LDAMLoss)
    fresh.load_params(**saved(net, tmp_path, (*FILES, "f_criterion")))
    assert fresh.classes_.dtype == bool
    assert list(fresh.feature_names_in_) == list("abcde")
    np.testing.assert_array_equal(fresh.class_counts_, net.class_counts_)
    np.testing.assert_array_equal(fresh.predict(frame), net.predict(frame))
    fresh.partial_fit(frame, CODES.astype(bool))


def test_the_state_of_another_method_is_refused(tmp_path):
    files = saved(classifier("absgd").fit(X, Y), tmp_path)
    with pytest.raises(ValueError, match="ABSGD"):
        classifier("hu").load_params(**files)


class _Evil:
    ran = False

    def __reduce__(self):
        return (_run, ())


def _run():
    _Evil.ran = True
    return {}


@pytest.mark.parametrize("file", ["f_params", "f_optimizer", "f_weighting"])
@pytest.mark.parametrize("initialized", [True, False])
def test_loading_runs_no_code(file, initialized, tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"method": "Hu", "weights": _Evil()}, path)
    net = classifier("hu")
    if initialized or file != "f_weighting":
        net.fit(X, Y)
    with pytest.raises(ValueError, match="more than tensors and plain values, and no code is run"):
        net.load_params(**{file: str(path)})
    assert not _Evil.ran


def test_saved_files_hold_plain_values_and_tensors_only(tmp_path):
    schedule = LRScheduler(policy=torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda epoch: 0.9**epoch)
    net = classifier("hu", callbacks=[("schedule", schedule)]).fit(X, Y.astype(object))
    for path in saved(net, tmp_path, ("f_params", "f_optimizer", "f_weighting")).values():
        torch.load(path, weights_only=True)


POST_HOC = ("tau-norm", "logit-adjustment")


@ALL
def test_checkpoint_callback_saves_and_loads_the_weighting(weighting, tmp_path):
    keep = Checkpoint(monitor="valid_loss_best", f_weighting="w.pt", dirname=str(tmp_path), load_best=True)
    net = classifier(weighting, callbacks=[("keep", keep)]).fit(X, Y)
    assert {p.name for p in tmp_path.iterdir()} == {
        "params.pt",
        "optimizer.pt",
        "criterion.pt",
        "history.json",
        "w.pt",
    }
    fresh = classifier(weighting, random_state=11)
    fresh.load_params(checkpoint=keep)
    assert fresh.classes_.tolist() == ["common", "rare"]
    np.testing.assert_array_equal(net.forward(X), fresh.forward(X))
    if weighting not in POST_HOC:  # of these a checkpoint from the middle of training has no correction
        np.testing.assert_array_equal(net.predict_proba(X), fresh.predict_proba(X))
    elif weighting == "logit-adjustment":
        assert np.abs(net.decision_function(X) - net.forward(X).diff(dim=1).numpy().ravel()).min() > 0.1
    best = int(np.flatnonzero(net.history[:, "event_cp"])[-1]) + 1
    assert fresh.progress_.epochs_done == best
    fresh.partial_fit(X, Y)


def test_load_init_state_trains_what_is_left(tmp_path):
    keep = Checkpoint(monitor=None, f_weighting="w.pt", dirname=str(tmp_path))
    whole = classifier("hu").fit(X, Y)
    classifier("hu", callbacks=[keep, At(3, interrupt)]).fit(X, Y)
    resumed = classifier("hu", callbacks=[LoadInitState(keep)]).fit(X, Y)
    assert resumed.history[:, "stage"] == [1, 1, 2, 2, 2]
    assert_same(whole, resumed)


@ALL
@pytest.mark.parametrize("by_callback", [False, True])
def test_the_files_of_the_last_epoch_become_the_finished_model(weighting, by_callback, tmp_path):
    whole = classifier(weighting).fit(X, Y)
    n_epochs = len(whole.history)
    keep = Checkpoint(monitor=None, f_weighting="w.pt", dirname=str(tmp_path))
    # Its files are of the last epoch, before the end of training.
    classifier(weighting, callbacks=[keep]).fit(X, Y)
    if by_callback:
        resumed = classifier(weighting, callbacks=[LoadInitState(keep)]).fit(X, Y)
    else:
        resumed = classifier(weighting)
        resumed.load_params(checkpoint=keep)
        resumed.partial_fit(X, Y)
    assert len(resumed.history) == n_epochs
    assert_same(whole, resumed)
    np.testing.assert_array_equal(whole.example_weights_, resumed.example_weights_)
    assert len(resumed.partial_fit(X, Y).history) > n_epochs


# ---------------------------------------------------------------- interruptions


@ALL
@pytest.mark.parametrize(("epoch", "batch"), [(2, None), (2, 1), (3, 1), (4, 1), (4, None)])
def test_ctrl_c_leaves_a_consistent_estimator(weighting, epoch, batch):
    net = classifier(weighting, callbacks=[At(epoch, interrupt, batch=batch)]).fit(X, Y)
    done = epoch if batch is None else epoch - 1
    assert net.progress_.epochs_done == len(net.history_) == len(net.history_frame()) == done
    assert len(net.history_[:, "train_loss"]) == done
    weights = net.example_weights_
    assert weights.shape == (len(X),)
    held = np.zeros(len(X), dtype=bool)
    if net.validation_indices_ is not None:
        held[net.validation_indices_] = True
    np.testing.assert_array_equal(np.isnan(weights), held)
    assert set(net.predict(X)) <= {"common", "rare"}
    assert not net._answers_in_codes
    assert not net.module_.training
    pickle.loads(pickle.dumps(net.set_params(callbacks=None))).partial_fit(X, Y)


@ALL
@pytest.mark.parametrize("keep_best", ["epoch", pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_partial_fit_after_ctrl_c_at_the_end_of_an_epoch_is_exact(weighting, keep_best, epoch):
    whole = classifier(weighting, keep_best=keep_best).fit(X, Y)
    net = classifier(weighting, keep_best=keep_best, callbacks=[("stop", At(epoch, interrupt))]).fit(X, Y)
    net.set_params(callbacks__stop=None)
    assert_same(whole, net.partial_fit(X, Y))


def test_other_parameters_given_after_an_interruption_are_kept(tmp_path):
    net = classifier("hu", callbacks=[("stop", At(5, interrupt))], max_epochs=4).fit(X, Y)
    other = classifier("hu", warmup_epochs=0, max_epochs=0).fit(X, Y)
    other.save_params(f_params=str(tmp_path / "p.pt"))
    net.load_params(f_params=str(tmp_path / "p.pt"))
    net.set_params(callbacks__stop=None, lr=1e-12)
    net.partial_fit(X, Y)
    np.testing.assert_allclose(net.predict_proba(X), other.predict_proba(X), atol=1e-6)


def test_early_stopping_ends_a_stage_not_the_training():
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs")
    net = classifier("hu", warmup_epochs=6, max_epochs=6, callbacks=[stop]).fit(X, Y)
    assert net.history[:, "stage"] == [1, 1, 1, 2, 2, 2]


def test_an_early_stopped_fit_goes_on():
    stop = EarlyStopping(monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs")
    net = classifier("hu", warmup_epochs=1, max_epochs=4, callbacks=[("stop", stop)]).fit(X, Y)
    assert net.history[:, "stage"] == [1, 2, 2, 2]
    net.set_params(callbacks__stop=None).partial_fit(X, Y)
    assert_same(net, classifier("hu", warmup_epochs=1, max_epochs=4).fit(X, Y))


# ---------------------------------------------------------------- going on on purpose


def test_partial_fit_trains_more_of_stage_two_once_all_is_done():
    net = classifier("hu").partial_fit(X, Y)
    assert net.history[:, "stage"] == [1, 1, 2, 2, 2]
    net.set_params(max_epochs=2).partial_fit(X, Y)
    assert net.history[:, "stage"] == [1, 1, 2, 2, 2, 2, 2]


def test_warm_start_goes_on_and_a_cold_fit_starts_again():
    warm = classifier("absgd", warm_start=True).fit(X, Y)
    cold = classifier("absgd").fit(X, Y)
    assert_same(warm, cold)
    warm.fit(X, Y)
    assert len(warm.history_) == 2 * N_EPOCHS + N_WARMUP
    assert_same(cold, cold.fit(X, Y))
    assert len(cold.history_) == N_EPOCHS + N_WARMUP


def test_partial_fit_on_new_rows_is_not_undone_by_the_best_of_old_rows():
    net = classifier("hu", warmup_epochs=4, max_epochs=4).fit(X, Y)
    before = parameters_of(net)
    net.partial_fit(X, Y[::-1])  # other rows, on whose validation rows all is worse
    assert any(not torch.equal(a, b) for a, b in zip(before, parameters_of(net), strict=True))


def test_partial_fit_takes_another_number_of_rows():
    net = classifier("hu").fit(X, Y)
    net.partial_fit(X[:60], Y[:60])
    assert net.example_weights_.shape == (60,)


# ---------------------------------------------------------------- set_params on a fitted estimator


def test_set_params_of_the_weighting_keeps_its_state():
    net = classifier("hu").fit(X, Y)
    stored = net.weighting_.stored_weights
    net.set_params(weighting__step_size=0.5)
    assert net.weighting_.step_size == 0.5
    assert net.weighting_.stored_weights is stored
    net.partial_fit(X, Y)


def test_set_params_of_another_weighting_starts_it():
    net = classifier("hu").fit(X, Y)
    net.set_params(weighting="absgd", weighting__lam=2.0).partial_fit(X, Y)
    assert net.weighting_.lam == 2.0
    assert "log_average" in net.weighting_.state_


def test_set_params_of_the_optimizer_takes_hold_at_once():
    net = classifier("none", optimizer=torch.optim.SGD, optimizer__momentum=0.5).fit(X, Y)
    net.set_params(lr=0.125, optimizer__momentum=0.25)
    assert net.optimizer_.param_groups[0]["lr"] == 0.125
    assert net.optimizer_.param_groups[0]["momentum"] == 0.25
    net.set_params(optimizer=torch.optim.RMSprop, optimizer__momentum=0.0)
    assert isinstance(net.optimizer_, torch.optim.RMSprop)
    net.set_params(optimizer=torch.optim.SGD, optimizer__momentum=0.75, lr=0.5)
    assert net.optimizer_.param_groups[0]["momentum"] == 0.75
    assert net.optimizer_.param_groups[0]["lr"] == net.get_params()["lr"] == 0.5
    net.partial_fit(X, Y)


@ALL
def test_set_params_of_the_module_begins_at_the_first_epoch(weighting):
    net = classifier(weighting).fit(X, Y)
    net.set_params(module__hidden=(3,))
    assert next(net.module_.parameters()).shape[0] == 3
    net.partial_fit(X, Y)
    assert net.history[-1, "stage"] == 2
    assert net.history[:, "stage"][-5:] == [1, 1, 2, 2, 2]


def test_set_params_of_the_criterion():
    net = classifier("ours").fit(X, Y)
    net.set_params(criterion=nn.MultiMarginLoss).partial_fit(X, Y)
    net.set_params(criterion=nn.CrossEntropyLoss, criterion__label_smoothing=0.1).partial_fit(X, Y)
    assert net.criterion_.label_smoothing == 0.1


# ---------------------------------------------------------------- seeds


@ALL
def test_equal_seeds_are_equal_and_global_generators_untouched(weighting):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = classifier(weighting, module__dropout=0.2).fit(X, Y)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    torch.manual_seed(6)
    assert_same(first, classifier(weighting, module__dropout=0.2).fit(X, Y))
    different = classifier(weighting, module__dropout=0.2, random_state=4).fit(X, Y)
    assert not np.array_equal(first.predict_proba(X), different.predict_proba(X))
    generator = np.random.RandomState(3)
    assert_same(first, classifier(weighting, module__dropout=0.2, random_state=generator).fit(X, Y))

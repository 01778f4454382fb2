"""skorch's callbacks over both stages, the printed table and the history as a DataFrame."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, balanced_accuracy_score, get_scorer
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LoadInitState,
    LRScheduler,
    ParamMapper,
    PassthroughScoring,
    ProgressBar,
    TrainEndCheckpoint,
    Unfreezer,
)
from skorch.utils import freeze_parameter
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from skreweight import ReweightedClassifier
from skreweight.weighting import WEIGHTINGS

X, CODES = make_classification(90, 5, n_informative=4, n_redundant=0, weights=[0.75], random_state=0)
X = X.astype(np.float32)
Y = np.array(["common", "rare"])[CODES]
ALL = pytest.mark.parametrize("weighting", WEIGHTINGS)
SOME = pytest.mark.parametrize("weighting", ["ours", "two-phase", "absgd"])


def classifier(weighting="hu", **parameters):
    defaults = {
        "module__hidden": (6,),
        "warmup_epochs": 2,
        "max_epochs": 2,
        "batch_size": 32,
        "validation_data": 4,
        "random_state": 3,
        "optimizer": torch.optim.SGD,
        "lr": 0.1,
    }
    return ReweightedClassifier(weighting=weighting, **{**defaults, **parameters})


def parameters_of(net):
    return [p.detach().clone() for p in net.module_.parameters()]


class Recorder(Callback):
    """Counts what it is told."""

    def __init__(self):
        self.events = []

    def on_train_begin(self, net, **kwargs):
        self.events.append("train_begin")

    def on_train_end(self, net, **kwargs):
        self.events.append("train_end")

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.events.append("epoch_begin")
        self.sizes = (len(dataset_train), None if dataset_valid is None else len(dataset_valid))

    def on_epoch_end(self, net, **kwargs):
        self.events.append("epoch_end")

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        self.events.append("train_batch" if training else "valid_batch")

    def on_grad_computed(self, net, named_parameters, **kwargs):
        assert all((p.grad is not None) == p.requires_grad for _, p in named_parameters)
        self.events.append("gradients")


# ---------------------------------------------------------------- lifecycle


@ALL
def test_every_event_comes_in_both_stages(weighting):
    recorder = Recorder()
    net = classifier(weighting, callbacks=[recorder]).fit(X, Y)
    events = recorder.events
    assert (events[0], events[-1]) == ("train_begin", "train_end")
    assert events.count("epoch_begin") == events.count("epoch_end") == 4
    batches = sum(net.history[:, "train_batch_count"])
    assert events.count("train_batch") == batches
    with_gradients = net.history[:2] if WEIGHTINGS[weighting].trains_correction else net.history
    assert events.count("gradients") == sum(row["train_batch_count"] for row in with_gradients)
    assert events.count("valid_batch") == 4
    assert recorder.sizes == (len(X) - 8, 8)


class Proxy:
    """Stands in for a callback, and is none itself."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


def hook(callback, name, heard):
    setattr(callback, name, lambda net, **kwargs: heard.append(kwargs.get("training", True)))
    return callback


@pytest.mark.parametrize("name", ["on_batch_begin", "on_batch_end", "on_grad_computed"])
@pytest.mark.parametrize("kind", ["on the object", "proxy", "proxy of a hooked one"])
def test_hooks_on_objects_and_proxies_are_called(kind, name):
    heard = []
    if kind == "proxy":
        own = type("Own", (Callback,), {name: lambda self, net, **kwargs: heard.append(kwargs["training"])})
        callback = Proxy(own())
    else:
        callback = hook(Callback(), name, heard)
        callback = Proxy(callback) if "proxy" in kind else callback
    net = classifier(callbacks=[callback]).fit(X, Y)
    assert sum(heard) == sum(net.history[:, "train_batch_count"])


def test_a_proxy_of_a_callback_that_does_nothing_costs_no_host_read():
    net = classifier(callbacks=[Proxy(Callback())]).fit(X, Y)
    assert not any("train_loss" in batch for row in net.history for batch in row["batches"])


@pytest.mark.parametrize("name", ["on_batch_begin", "on_batch_end", "on_grad_computed"])
def test_hooks_of_a_subclass_are_called(name):
    heard = []

    def listening(self, net, **kwargs):
        heard.append(kwargs["training"])
        getattr(super(kind, self), name)(net, **kwargs)

    kind = type("Listening", (ReweightedClassifier,), {name: listening})
    net = kind(warmup_epochs=1, max_epochs=1, validation_data=4, random_state=0).fit(X, Y)
    assert sum(heard) == sum(net.history[:, "train_batch_count"])


def test_batch_figures_reach_the_history_when_a_callback_asks_for_batches():
    net = classifier(callbacks=[Recorder()]).fit(X, Y)
    for row in net.history:
        batches = [b for b in row["batches"] if "train_loss" in b]
        losses, sizes = ([b[f"train_{what}"] for b in batches] for what in ("loss", "batch_size"))
        assert len(losses) == row["train_batch_count"]
        assert len(set(sizes)) > 1
        assert row["train_loss"] == pytest.approx(np.average(losses, weights=sizes), rel=1e-5)


# ---------------------------------------------------------------- early stopping


def stopper(**kwargs):
    """Stop two epochs after the first of a stage."""
    options = {"monitor": "train_loss", "patience": 2, "threshold": 1e9, "threshold_mode": "abs"}
    return EarlyStopping(**{**options, **kwargs})


@SOME
def test_early_stopping_ends_each_stage(weighting):
    recorder = Recorder()
    net = classifier(weighting, warmup_epochs=5, max_epochs=5, callbacks=[stopper(), recorder]).fit(X, Y)
    assert net.history[:, "stage"] == [1, 1, 1, 2, 2, 2]
    assert recorder.events.count("epoch_end") == 6  # those behind it in the list hear of the last epoch too


def test_early_stopping_begins_anew_with_stage_two():
    # Two epochs of stage 1 without progress do not count in stage 2.
    net = classifier(warmup_epochs=2, max_epochs=5, callbacks=[stopper()]).fit(X, Y)
    assert net.history[:, "stage"] == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("warmup", [0, 3])
def test_early_stopping_restores_its_best_epoch(warmup):
    class Parameters(Callback):
        def on_epoch_end(self, net, **kwargs):
            self.seen_ = [*getattr(self, "seen_", []), parameters_of(net)]

    keep = Parameters()
    stop = stopper(load_best=True)
    net = classifier(warmup_epochs=warmup, max_epochs=5, keep_best=False, callbacks=[keep, stop]).fit(X, Y)
    first = [row["stage"] for row in net.history].index(2)
    for a, b in zip(keep.seen_[first], parameters_of(net), strict=True):
        assert torch.equal(a, b)


# ---------------------------------------------------------------- checkpoints


def test_train_end_checkpoint(tmp_path):
    net = classifier(callbacks=[TrainEndCheckpoint(dirname=str(tmp_path), f_weighting="w.pt")]).fit(X, Y)
    other = classifier()
    other.load_params(
        f_params=str(tmp_path / "train_end_params.pt"), f_weighting=str(tmp_path / "train_end_w.pt")
    )
    np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))


def test_checkpoint_with_epoch_numbers_in_names(tmp_path):
    keep = Checkpoint(
        monitor=None,
        dirname=str(tmp_path),
        f_params="{last_epoch[epoch]}.pt",
        f_optimizer=None,
        f_criterion=None,
    )
    classifier(callbacks=[keep]).fit(X, Y)
    assert {p.stem for p in tmp_path.glob("*.pt")} == {"1", "2", "3", "4"}


# ---------------------------------------------------------------- learning-rate schedules


SCHEDULES = {
    "step": {"policy": StepLR, "step_size": 1, "gamma": 0.5},
    "multi-step": {"policy": MultiStepLR, "milestones": [1, 3]},
    "exponential": {"policy": ExponentialLR, "gamma": 0.7},
    "cosine": {"policy": CosineAnnealingLR, "T_max": 5},
    "restarts": {"policy": CosineAnnealingWarmRestarts, "T_0": 2},
    "lambda": {"policy": LambdaLR, "lr_lambda": lambda epoch: 1 / (1 + epoch)},
    "plateau": {"policy": ReduceLROnPlateau, "monitor": "train_loss", "patience": 0, "threshold": 1e9},
    "warm restart": {"policy": "WarmRestartLR", "base_period": 2},
    "one cycle": {"policy": OneCycleLR, "max_lr": 0.2, "total_steps": 40, "step_every": "batch"},
    "cyclic": {"policy": CyclicLR, "base_lr": 0.01, "max_lr": 0.2, "step_size_up": 2, "step_every": "batch"},
}


@pytest.mark.parametrize("schedule", ["step", "one cycle"])
@SOME
def test_schedules_go_through_both_stages(schedule, weighting):
    callbacks = [LRScheduler(**SCHEDULES[schedule])]
    net = classifier(weighting, callbacks=callbacks, restart_stage_two=False).fit(X, Y)
    if schedule == "step":
        assert net.history[:, "event_lr"] == [0.1, 0.05, 0.025, 0.0125]
    else:
        rates = [b["event_lr"] for row in net.history for b in row["batches"] if "event_lr" in b]
        assert len(rates) == sum(net.history[:, "train_batch_count"])
        assert len(set(rates)) > 4


def test_a_schedule_restarts_with_stage_two():
    schedule = LRScheduler(**SCHEDULES["step"])
    net = classifier(callbacks=[schedule], restart_stage_two=True).fit(X, Y)
    assert net.history[:, "event_lr"] == [0.1, 0.05, 0.1, 0.05]


@pytest.mark.parametrize(
    ("weighting", "asked", "restarts"),
    [("ours", "auto", True), ("ours", False, False), ("hu", "auto", False), ("crt", "auto", True)],
)
def test_which_methods_restart_by_themselves(weighting, asked, restarts):
    schedule = LRScheduler(**SCHEDULES["step"])
    net = classifier(weighting, callbacks=[schedule], restart_stage_two=asked).fit(X, Y)
    assert net.history[:, "event_lr"] == [0.1, 0.05, *([0.1, 0.05] if restarts else [0.025, 0.0125])]
    with pytest.raises(ValueError, match="restart_stage_two"):
        classifier(restart_stage_two="always").fit(X, Y)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("restart", [False, True])
def test_schedules_go_on_exactly_from_a_checkpoint(schedule, restart, tmp_path):
    class Save(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                net.save_params(**files)

    files = {name: str(tmp_path / name) for name in ("f_params", "f_optimizer", "f_weighting", "f_history")}
    common = {"restart_stage_two": restart, "max_epochs": 3, "keep_best": False}
    made = [LRScheduler(**SCHEDULES[schedule]) for _ in range(2)]
    whole = classifier(callbacks=[("schedule", made[0]), ("save", Save())], **common).fit(X, Y)
    resumed = classifier(callbacks=[("schedule", made[1])], **common)
    resumed.load_params(**files)
    resumed.partial_fit(X, Y)
    for a, b in zip(parameters_of(whole), parameters_of(resumed), strict=True):
        assert torch.equal(a, b)
    if SCHEDULES[schedule].get("step_every") is None:
        assert whole.history[:, "event_lr"] == resumed.history[:, "event_lr"]


@pytest.mark.parametrize("schedule", ["step", "cosine", "plateau", "one cycle"])
@pytest.mark.parametrize("load_first", [True, False])
def test_a_schedule_goes_on_from_a_loaded_state_in_any_order_of_callbacks(schedule, load_first, tmp_path):
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    def rate():
        return ("rate", LRScheduler(**SCHEDULES[schedule]))

    keep = Checkpoint(monitor=None, f_weighting="w.pt", dirname=str(tmp_path))
    options = {"max_epochs": 3, "keep_best": False}
    whole = classifier(callbacks=[rate()], **options).fit(X, Y)
    classifier(callbacks=[rate(), ("keep", keep), ("stop", Stop())], **options).fit(X, Y)
    callbacks = [("load", LoadInitState(keep)), rate()]
    resumed = classifier(callbacks=callbacks[:: 1 if load_first else -1], **options).fit(X, Y)
    for a, b in zip(parameters_of(whole), parameters_of(resumed), strict=True):
        assert torch.equal(a, b)


def test_a_schedule_goes_on_after_ctrl_c_and_with_other_parameters():
    class Stop(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                raise KeyboardInterrupt

    callbacks = [("rate", LRScheduler(**SCHEDULES["step"])), ("stop", Stop())]
    net = classifier(callbacks=callbacks, max_epochs=3).fit(X, Y)
    net.set_params(callbacks__stop=None).partial_fit(X, Y)
    assert net.history[:, "event_lr"] == [0.1 / 2**k for k in range(5)]
    net.set_params(callbacks__rate__gamma=1.0, max_epochs=2).partial_fit(X, Y)
    assert net.history[-1, "event_lr"] == net.history[-2, "event_lr"]


# ---------------------------------------------------------------- scoring


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("labels", [CODES, Y, CODES * 2 - 1, CODES == 1], ids=["codes", "str", "±1", "bool"])
def test_epoch_scores_are_those_of_the_labels(use_caching, labels):
    scores = [
        EpochScoring(
            "balanced_accuracy", name="valid_balanced", lower_is_better=False, use_caching=use_caching
        ),
        EpochScoring("roc_auc", name="valid_auc", lower_is_better=False, use_caching=use_caching),
        EpochScoring("accuracy", name="train_acc", on_train=True, lower_is_better=False, use_caching=False),
        EpochScoring("neg_log_loss", name="train_ll", on_train=True, use_caching=use_caching),
    ]
    net = classifier(keep_best=False, callbacks=scores).fit(X, labels)
    held = net.validation_indices_
    trained = np.setdiff1d(np.arange(len(X)), held)
    last = net.history[-1]
    assert last["valid_balanced"] == balanced_accuracy_score(labels[held], net.predict(X[held]))
    assert last["valid_auc"] == pytest.approx(get_scorer("roc_auc")(net, X[held], labels[held]))
    assert last["train_acc"] == accuracy_score(labels[trained], net.predict(X[trained]))
    assert all(np.isfinite(net.history[:, "train_ll"]))


@SOME
def test_a_score_of_ones_own_and_a_scorer_function(weighting):
    def share_of_rare(net, X, y):
        return float(np.mean(net.predict(X) == 1))

    scores = [
        EpochScoring(share_of_rare, name="rare"),
        EpochScoring(share_of_rare, name="rare_train", on_train=True),
    ]
    net = classifier(weighting, callbacks=scores).fit(X, Y)
    assert all(0 <= v <= 1 for v in [*net.history[:, "rare"], *net.history[:, "rare_train"]])


def test_scores_without_validation_rows_are_left_out():
    net = classifier("absgd", validation_data=None, callbacks=[EpochScoring("accuracy")]).fit(X, Y)
    assert "accuracy" not in net.history[-1]
    assert "valid_loss" not in net.history[-1]


def test_batch_scoring_and_passthrough():
    def loss(net, X, y):
        return net.history[-1, "batches", -1, "train_loss"]

    callbacks = [
        BatchScoring(loss, name="seen_loss", on_train=True, use_caching=True),
        PassthroughScoring("train_loss_again", on_train=True),
    ]

    class Again(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if training:
                net.history.record_batch("train_loss_again", 1.5)

    net = classifier(callbacks=[Again(), *callbacks]).fit(X, Y)
    assert net.history[:, "train_loss_again"] == [1.5] * 4
    assert net.history[:, "seen_loss"] == pytest.approx(net.history[:, "train_loss"], rel=0.2)


# ---------------------------------------------------------------- parameters and gradients


@ALL
def test_gradients_can_be_clipped(weighting):
    start = parameters_of(classifier(weighting, warmup_epochs=0, max_epochs=0).fit(X, Y))
    clip = GradientNormClipping(1e-9)
    net = classifier(weighting, weighting__step_size=1.0, callbacks=[clip]) if weighting == "hu" else None
    net = net or classifier(weighting, callbacks=[clip])
    if weighting == "ours":
        net.set_params(weighting__n_constraint_steps=0)
    if weighting == "crt":
        net.set_params(weighting__new_classifier=False)
    net.fit(X, Y)
    for a, b in zip(start, parameters_of(net), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@SOME
def test_a_frozen_layer_stays_in_both_stages(weighting):
    first = next(n for n, _ in classifier(weighting).fit(X, Y).module_.named_parameters())
    untrained = classifier(weighting, warmup_epochs=0, max_epochs=0).fit(X, Y)
    net = classifier(weighting, callbacks=[Freezer(first)]).fit(X, Y)
    start, end = dict(untrained.module_.named_parameters()), dict(net.module_.named_parameters())
    assert torch.equal(start[first], end[first])
    assert any(not torch.equal(start[n], end[n]) for n in start if n != first)


@SOME
def test_a_layer_unfrozen_in_stage_two_is_trained_there(weighting):
    first = next(n for n, _ in classifier(weighting).fit(X, Y).module_.named_parameters())
    untrained = classifier(weighting, warmup_epochs=0, max_epochs=0).fit(X, Y)
    start = dict(untrained.module_.named_parameters())[first]
    callbacks = [Freezer(first), Unfreezer(first, at=3)]
    net = classifier(weighting, keep_best=False, callbacks=callbacks).fit(X, Y)
    assert not torch.equal(start, dict(net.module_.named_parameters())[first])


def test_param_mapper_with_a_schedule():
    first = next(n for n, _ in classifier().fit(X, Y).module_.named_parameters())
    freeze = ParamMapper(first, schedule=lambda net: freeze_parameter)
    net = classifier(callbacks=[freeze]).fit(X, Y)
    assert not dict(net.module_.named_parameters())[first].requires_grad


# ---------------------------------------------------------------- output


ANSI = re.compile(r"\x1b\[\d+m")


@ALL
def test_silent_by_default(weighting, capsys):
    classifier(weighting).fit(X, Y).set_params(module__hidden=(3,), lr=0.2).partial_fit(X, Y)
    out = capsys.readouterr()
    assert out.out == out.err == ""


@ALL
def test_verbose_prints_one_table(weighting, capsys):
    classifier(weighting, verbose=1, diagnostics=True).fit(X, Y)
    lines = ANSI.sub("", capsys.readouterr().out).rstrip("\n").split("\n")
    assert lines[0].split() == ["epoch", "stage", "train_loss", "valid_acc", "valid_loss", "dur"]
    assert len(lines) == 2 + 4
    assert [line.split()[1] for line in lines[2:]] == ["1", "1", "2", "2"]
    assert len({len(line) for line in lines}) == 1


def test_verbose_without_validation_rows(capsys):
    classifier("none", validation_data=None, verbose=1).fit(X, Y)
    header = capsys.readouterr().out.split("\n")[0]
    assert header.split() == ["epoch", "stage", "train_loss", "dur"]


def test_progress_bar(capsys):
    classifier(verbose=1, callbacks=[ProgressBar()]).fit(X, Y)
    captured = capsys.readouterr()
    assert "train_loss" in captured.out
    assert "it/s" in captured.err + captured.out


def test_history_frame():
    net = classifier("ours", diagnostics=True, callbacks=[Recorder(), EpochScoring("f1", name="f1")])
    frame = net.fit(X, CODES).history_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame.index.tolist() == [1, 2, 3, 4]
    assert frame.index.name == "epoch"
    assert frame["stage"].tolist() == [1, 1, 2, 2]
    assert "batches" not in frame
    assert {"train_loss", "valid_loss", "valid_acc", "f1", "dur"} <= set(frame)
    assert frame["validation_loss_after"].isna().tolist() == [True, True, False, False]
    later = frame[frame["stage"] == 2]
    assert (later["validation_loss_after"] <= later["validation_loss_before"]).all()


def test_history_frame_before_and_without_training():
    with pytest.raises(Exception, match="not fitted"):
        classifier().history_frame()
    assert classifier(warmup_epochs=0, max_epochs=0).fit(X, Y).history_frame().empty

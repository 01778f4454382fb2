"""Corrections z' = a∘z + c of the logits: what they are, and when predictions are made from them."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.metrics import balanced_accuracy_score, recall_score
from skorch.callbacks import Callback, EpochScoring
from torch import nn

from skreweight import ReweightedClassifier
from skreweight.losses import FocalLoss, LDAMLoss
from skreweight.modules import MLP
from skreweight.weighting import get_weighting
from skreweight.weighting._correction import GRID, chosen_strength

X, Y = make_classification(
    200, 5, n_informative=4, n_redundant=0, n_classes=3, weights=[0.7, 0.2], class_sep=0.7, random_state=0
)
COUNTS = np.bincount(Y)
TWO = Y > 0


class Double(MLP):
    def __init__(self, n_features, n_classes):
        super().__init__(n_features, n_classes, hidden=(6,), activation="tanh")
        self.double()


class OneLogit(Double):
    def __init__(self, n_features):
        super().__init__(n_features, 2)
        self.layers[-1] = nn.Linear(6, 1, dtype=torch.float64)


class Probabilities(Double):
    def forward(self, X):
        return torch.softmax(super().forward(X), 1)


class LogProbabilities(Double):
    def forward(self, X):
        return torch.log_softmax(super().forward(X), 1)


def fitted(weighting, y=Y, **settings):
    options = {"module": Double, "warmup_epochs": 3, "max_epochs": 3, "batch_size": 32, "random_state": 0}
    return ReweightedClassifier(weighting=weighting, **{**options, "lr": 0.02, **settings}).fit(X, y)


def outputs_of(clf):
    return clf.forward(X).numpy()


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


# ---------------------------------------------------------------- logit adjustment


@pytest.mark.parametrize("tau", [0.0, 1.0, 1.7])
def test_logit_adjustment(tau):
    clf, plain = fitted("logit-adjustment", weighting__tau=tau), fitted("none")
    z = outputs_of(clf)
    np.testing.assert_array_equal(z, outputs_of(plain))  # the network is that of the plain loss
    expected = z - tau * np.log(COUNTS / COUNTS.sum())
    np.testing.assert_allclose(clf.decision_function(X), expected, rtol=1e-10)
    np.testing.assert_allclose(clf.predict_proba(X), softmax(expected), rtol=1e-10)
    np.testing.assert_array_equal(clf.predict(X), expected.argmax(1))


def test_logit_adjustment_divides_odds_whatever_the_module_returns():
    """Bayes' rule for equal classes: one logit, probabilities and LDAM's scaled logits included."""
    shares = np.array([(~TWO).mean(), TWO.mean()])
    for options in (
        {"module": OneLogit, "criterion": nn.BCEWithLogitsLoss},
        {"module": Probabilities, "criterion": nn.NLLLoss},
        {"module": LogProbabilities, "criterion": nn.NLLLoss},
        {"criterion": LDAMLoss, "criterion__scale": 3.0},
        {"criterion": FocalLoss},
    ):
        clf = fitted("logit-adjustment", TWO, **options)
        plain = fitted("none", TWO, **options).predict_proba(X)
        if plain.ndim == 1:
            plain = np.stack([1 - plain, plain], 1)
        expected = plain / shares
        expected /= expected.sum(1, keepdims=True)
        found = clf.predict_proba(X)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
        np.testing.assert_array_equal(clf.predict(X), expected.argmax(1) == 1)
        np.testing.assert_array_equal(clf.decision_function(X) > 0, expected.argmax(1) == 1)


def test_a_class_without_a_row_is_left_alone():
    clf = ReweightedClassifier(
        Double, weighting="logit-adjustment", classes=[0, 1, 2, 3], warmup_epochs=1, max_epochs=1
    ).fit(X, Y)
    assert clf.weighting_.state_["logit_shift"][3] == 0
    assert np.isfinite(clf.predict_proba(X)).all()


def test_tau_is_chosen_for_a_single_logit_too():
    options = {"module": OneLogit, "criterion": nn.BCEWithLogitsLoss, "validation_data": 5}
    clf = fitted("logit-adjustment", TWO, weighting__tau=None, **options)
    tau = float(clf.weighting_.state_["tau"])
    same = fitted("logit-adjustment", TWO, weighting__tau=tau, **options)
    np.testing.assert_allclose(clf.predict_proba(X), same.predict_proba(X), rtol=1e-6)
    assert tau in [pytest.approx(t) for t in GRID]


@pytest.mark.parametrize("weighting", ["logit-adjustment", "tau-norm"])
def test_tau_is_chosen_on_the_validation_rows(weighting):
    clf = fitted(weighting, weighting__tau=None, validation_data=5)
    held = clf.validation_indices_
    assert len(held) == 15
    tau = float(clf.weighting_.state_["tau"])
    assert tau in [pytest.approx(t) for t in GRID]

    def score(t):
        other = fitted(weighting, weighting__tau=t, validation_data=5)
        return balanced_accuracy_score(Y[held], other.predict(X[held]))

    assert balanced_accuracy_score(Y[held], clf.predict(X[held])) == max(score(t) for t in GRID)


def test_the_strength_is_the_best_by_class_then_by_loss():
    """Against scikit-learn, for one network and for members, with unequal classes."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4, 30, 3, generator=generator, dtype=torch.float64) * 2
    y = torch.cat([torch.zeros(20), torch.ones(7), torch.full((3,), 2)]).long().expand(4, -1)
    shift = torch.tensor([0.3, 1.5, 2.5], dtype=torch.float64)

    def corrected(logits, t):
        return logits + t * shift

    found = chosen_strength(z, y, corrected)
    assert found.shape == (4, 1)
    for k in range(4):
        keys = []
        for t in GRID:
            moved = corrected(z[k], t)
            recall = recall_score(y[k], moved.argmax(1), average="macro", zero_division=0)
            keys.append((-round(recall, 9), float(nn.functional.cross_entropy(moved, y[k]))))
        assert float(found[k]) == pytest.approx(GRID[keys.index(min(keys))])
        assert torch.equal(chosen_strength(z[k], y[k], corrected), found[k])


def test_validation_rows_are_held_out_where_tau_is_chosen():
    clf = fitted("logit-adjustment")
    assert clf.validation_indices_ is None
    clf.set_params(weighting__tau=None).partial_fit(X, Y)
    assert clf.validation_indices_ is not None
    assert fitted("tau-norm", weighting__tau=1.0).validation_indices_ is None


class ChoosesTau(Callback):
    """Asks for validation rows when it is too late for them."""

    def on_epoch_end(self, net, **kwargs):
        net.weighting_.tau = None


def test_no_validation_rows_for_tau():
    with pytest.raises(ValueError, match="LogitAdjustment needs validation rows and there are none"):
        fitted("logit-adjustment", warmup_epochs=0, max_epochs=1, callbacks=[ChoosesTau()])


# ---------------------------------------------------------------- τ-norm


@pytest.mark.parametrize("keep_bias", [False, True])
def test_tau_norm(keep_bias):
    clf = fitted("tau-norm", weighting__tau=0.6, weighting__keep_bias=keep_bias)
    head = clf.module_.layers[-1]
    W, b = head.weight.detach().numpy(), head.bias.detach().numpy()
    lengths = np.sqrt((W**2).sum(1)) ** 0.6
    expected = (clf.features(X) @ W.T + b * keep_bias) / lengths
    np.testing.assert_allclose(clf.decision_function(X), expected, rtol=1e-10)


class Scaled(Double):
    def forward(self, X):
        return super().forward(X) * 2


def test_tau_norm_refuses_what_is_no_last_linear_layer():
    with pytest.raises(ValueError, match=r"something follows 'layers\.2'"):
        fitted("tau-norm", module=Scaled)
    with pytest.raises(ValueError, match=r"'layers.2' does not allow: its output is not that of the module"):
        fitted("tau-norm", module=Scaled, classifier="layers.2")
    with pytest.raises(ValueError, match="its output is not that of the module"):
        fitted("tau-norm", module=MLP, module__normalized_head=True)
    with pytest.raises(ValueError, match="has one output"):
        fitted("tau-norm", TWO, module=OneLogit, criterion=nn.BCEWithLogitsLoss, validation_data=3)


# ---------------------------------------------------------------- LWS


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"criterion": FocalLoss},
        {"class_weight": {0: 0.5, 1: 2.0}},
        {"weighting__lr": None, "lr": 0.3},
        {"weighting__momentum": 0.0, "weighting__weight_decay": 0.1},
    ],
)
def test_lws_is_sgd_on_the_scales(settings):
    """Autograd and torch's own SGD, over the plain batches of the whole training set."""
    weight = np.random.RandomState(0).randint(1, 4, len(Y)).astype(float)
    options = {"weighting__lr": 0.2, "weighting__sampling": "instance", "batch_size": -1, **settings}
    options |= {"module": Double, "warmup_epochs": 2, "max_epochs": 5, "random_state": 0, "keep_best": False}
    clf = ReweightedClassifier(weighting="lws", **options).fit(X, Y, sample_weight=weight)
    s = torch.ones(3, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD(
        [s],
        lr=options["weighting__lr"] or options["lr"],
        momentum=options.get("weighting__momentum", 0.9),
        weight_decay=options.get("weighting__weight_decay", 5e-4),
    )
    z, y = torch.from_numpy(outputs_of(clf)), torch.from_numpy(Y)
    m = torch.from_numpy(weight / weight.mean())
    c = torch.tensor([settings.get("class_weight", {}).get(k, 1.0) for k in range(3)])
    loss = settings.get("criterion", nn.CrossEntropyLoss)(reduction="none")
    for _ in range(5):
        sgd.zero_grad()
        (m * c[y] * loss(s * z, y)).mean().backward()
        sgd.step()
    np.testing.assert_allclose(clf.weighting_.state_["logit_scale"], s.detach(), rtol=1e-10)
    np.testing.assert_allclose(clf.decision_function(X), z.numpy() * s.detach().numpy(), rtol=1e-10)


def test_lws_leaves_the_network_as_stage_one_left_it():
    clf, before = fitted("lws"), fitted("none", max_epochs=0)
    for a, b in zip(clf.module_.parameters(), before.module_.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.requires_grad


@pytest.mark.parametrize("keep_best", ["epoch", "step"])
def test_the_best_scales_are_kept(keep_best):
    clf = fitted("lws", keep_best=keep_best, weighting__lr=5.0, max_epochs=6, validation_data=5)
    best = max(clf.history[3:], key=lambda row: (row["valid_acc"], -row["valid_loss"]))
    held = clf.validation_indices_
    accuracy = (clf.predict(X[held]) == Y[held]).mean()
    assert accuracy >= best["valid_acc"] - 1e-12
    if keep_best == "epoch":
        assert accuracy == pytest.approx(best["valid_acc"])
        assert len({row["valid_acc"] for row in clf.history[3:]}) > 1


@pytest.mark.parametrize("epoch", [4, 6])
def test_lws_goes_on_from_the_last_scales_not_from_the_best(epoch, tmp_path):
    options = {"weighting__lr": 5.0, "validation_data": 5, "module__n_features": 5, "module__n_classes": 3}
    whole = fitted("lws", max_epochs=6, **options)
    part = fitted("lws", max_epochs=epoch - 3, **options)
    files = {f"f_{name}": str(tmp_path / name) for name in ("params", "optimizer", "history", "weighting")}
    part.save_params(**files)
    resumed = ReweightedClassifier(
        Double,
        weighting="lws",
        warmup_epochs=3,
        max_epochs=6,
        batch_size=32,
        lr=0.02,
        random_state=0,
        **options,
    ).initialize()
    resumed.load_params(**files)
    np.testing.assert_array_equal(resumed.predict_proba(X), part.predict_proba(X))
    resumed.partial_fit(X, Y)
    for name, value in whole.weighting_.state_.items():
        assert torch.equal(value, resumed.weighting_.state_[name]), name
    np.testing.assert_array_equal(whole.predict_proba(X), resumed.predict_proba(X))


class Overflows(Double):
    def forward(self, X):
        return super().forward(X) * torch.where(X[:, :1] > 100, torch.inf, 1.0)


def test_a_batch_that_is_not_finite_leaves_the_scales_alone():
    wild = np.vstack([X, [[1000.0] * 5]])
    options = {
        "module": Overflows,
        "warmup_epochs": 0,
        "max_epochs": 1,
        "batch_size": 32,
        "on_nonfinite": "skip",
    }
    clf = ReweightedClassifier(weighting="lws", random_state=0, weighting__sampling="instance", **options)
    with pytest.warns(UserWarning, match="skipped 1 batch"):
        clf.fit(wild, np.append(Y, 0))
    scale = clf.weighting_.state_["logit_scale"]
    assert scale.isfinite().all() and (scale != 1).all()


def test_lws_refuses_what_has_no_logit_for_each_class():
    with pytest.raises(ValueError, match="scales one logit for each class"):
        fitted("lws", module=Probabilities, criterion=nn.NLLLoss)
    with pytest.raises(ValueError, match="scales one logit for each class"):
        fitted("lws", TWO, module=OneLogit, criterion=nn.BCEWithLogitsLoss)
    with pytest.raises(ValueError, match="trains no part of the network"):
        fitted("lws", stage_two_trainable="classifier")


# ---------------------------------------------------------------- when they hold


class Predicts(Callback):
    """What the estimator predicts at the end of each epoch, and of training."""

    def on_train_begin(self, net, **kwargs):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append((net.decision_function(X), net.forward(X).numpy()))

    on_train_end = on_epoch_end


@pytest.mark.parametrize("weighting", ["logit-adjustment", "tau-norm", "lws"])
def test_callbacks_score_the_network_itself(weighting):
    watch = Predicts()
    clf = fitted(
        weighting, callbacks=[watch, ("scored", EpochScoring("balanced_accuracy"))], validation_data=5
    )
    clf.partial_fit(X, Y)  # a correction is there by now
    assert len(watch.seen) == 4
    for scores, outputs in watch.seen:
        np.testing.assert_array_equal(scores, outputs)
    assert not np.allclose(clf.decision_function(X), outputs_of(clf))


@pytest.mark.parametrize("weighting", ["logit-adjustment", "tau-norm", "lws"])
def test_pickles_predict_with_the_correction(weighting):
    clf = fitted(weighting)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(clf.decision_function(X), again.decision_function(X))


POST_HOC = pytest.mark.parametrize("weighting", ["logit-adjustment", "tau-norm"])
FILES = ("params", "optimizer", "history", "weighting")
SIZES = {"module__n_features": 5, "module__n_classes": 3, "validation_data": 5}


@pytest.mark.parametrize("weighting", ["logit-adjustment", "tau-norm", "lws"])
def test_files_hold_the_correction(weighting, tmp_path):
    clf = fitted(weighting, **SIZES)
    files = {f"f_{name}": str(tmp_path / name) for name in FILES}
    clf.save_params(**files)
    again = ReweightedClassifier(Double, weighting=weighting, classes=[0, 1, 2], **SIZES).initialize()
    again.load_params(**files)
    assert again.weighting_.corrects
    np.testing.assert_array_equal(clf.decision_function(X), again.decision_function(X))


class Stops(Callback):
    """Ends training with an error, or with gradients that are infinite, in an epoch; saves what is there before."""

    def __init__(self, epoch, how, path=None):
        self.epoch, self.how, self.path = epoch, how, path

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) != self.epoch:
            return
        if self.path is not None:
            net.save_params(**{f"f_{name}": str(self.path / name) for name in FILES})
        if self.how == "error":
            raise RuntimeError("stop")

    def on_grad_computed(self, net, named_parameters, **kwargs):
        if self.how == "infinite" and len(net.history) == self.epoch:
            net.module_.layers[-1].weight.grad.fill_(torch.inf)


def expected_scores(clf):
    """What τ-norm without bias, or logit adjustment, makes of the network as it is now."""
    tau = clf.weighting_.tau
    if type(clf.weighting_).__name__ == "LogitAdjustment":
        return outputs_of(clf) - tau * np.log(COUNTS / COUNTS.sum())
    W = clf.module_.layers[-1].weight.detach().numpy()
    return clf.features(X) @ W.T / np.sqrt((W**2).sum(1)) ** tau


@POST_HOC
@pytest.mark.parametrize("how", ["error", "infinite"])
def test_after_an_error_the_correction_is_that_of_the_network_as_it_is(weighting, how):
    """In partial_fit: it moved, and is kept."""
    clf = fitted(weighting, weighting__tau=0.7)
    before = clf.decision_function(X)
    clf.set_params(callbacks=[Stops(8, how)], lr=0.2)
    with pytest.raises((RuntimeError, ValueError), match=r"stop|finite"):
        clf.partial_fit(X, Y)
    assert np.abs(clf.decision_function(X) - before).max() > 1e-3
    np.testing.assert_allclose(clf.decision_function(X), expected_scores(clf), rtol=1e-10)


@POST_HOC
@pytest.mark.parametrize("epoch", [5, 8])
def test_a_checkpoint_from_the_middle_has_no_correction_and_says_so(weighting, epoch, tmp_path, recwarn):
    """Of the first fit and of a later one."""
    clf = fitted(weighting, weighting__tau=0.7)
    clf.set_params(callbacks=[Stops(epoch, "nothing", tmp_path)])
    if epoch == 5:
        clf.fit(X, Y)
    else:
        clf.partial_fit(X, Y)
    options = {"warmup_epochs": 3, "max_epochs": 3, **SIZES}
    middle = ReweightedClassifier(
        Double, weighting=weighting, weighting__tau=0.7, classes=[0, 1, 2], **options
    ).initialize()
    assert not len(recwarn)
    middle.load_params(**{f"f_{name}": str(tmp_path / name) for name in FILES})
    with pytest.warns(UserWarning, match=r"at the end of training.*Call partial_fit"):
        scores = middle.decision_function(X)
    np.testing.assert_array_equal(scores, outputs_of(middle))
    recwarn.clear()
    middle.set_params(validation_data=None).partial_fit(X, Y)
    np.testing.assert_allclose(middle.decision_function(X), expected_scores(middle), rtol=1e-10)
    assert not len(recwarn)


@pytest.mark.parametrize(
    ("name", "warned"), [("tau-norm", 1), ("lws", 1), ("logit-adjustment", 0), ("crt", 0)]
)
def test_two_classes_are_warned_of(name, warned, recwarn):
    fitted(name, TWO)
    assert sum("next to nothing" in str(w.message) for w in recwarn) == warned
    recwarn.clear()
    fitted(name)
    assert not [w for w in recwarn if "next to nothing" in str(w.message)]


def test_ldam_with_normalised_logits_is_refused():
    with pytest.raises(ValueError, match="criterion__tau=0"):
        fitted("logit-adjustment", criterion=LDAMLoss, criterion__tau=1.0)


def test_correction_of_another_number_of_outputs():
    weighting = get_weighting("logit-adjustment")
    weighting.state_ = {"logit_shift": torch.zeros(3), "tau": torch.ones(1)}
    with pytest.raises(
        ValueError, match=r"one logit for each of 3 classes, the module gives outputs of shape \(7, 1\)"
    ):
        weighting.corrected(torch.zeros(7, 1))


def test_what_a_fuzz_found_is_an_error_that_names_it():
    """A tau whose factors overflow, and a module of another width, gave NaN and a RuntimeError of torch."""
    x, y = np.random.default_rng(0).normal(size=(30, 1)).astype(np.float32), np.repeat([0, 1, 2], 10)
    given = dict(weighting="tau-norm", warmup_epochs=1, max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match=r"weighting__tau=.* not finite"):
        ReweightedClassifier(weighting__tau=1e8, **given).fit(x, y)
    with pytest.raises(ValueError, match="cannot take the rows of X"):
        ReweightedClassifier(torch.nn.Linear(3, 3), **given).fit(x, y)

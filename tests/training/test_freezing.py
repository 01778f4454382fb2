"""Stages that train part of a network: what moves, what is given back, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from skorch.callbacks import Callback
from torch import nn

from skreweight import ReweightedClassifier
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS

X, Y = make_classification(
    120, 5, n_informative=4, n_redundant=0, n_classes=3, weights=[0.6, 0.3], random_state=0
)
X = X.astype(np.float32)


class Net(nn.Module):
    def __init__(self, n_features=5, n_classes=3):
        super().__init__()
        self.first, self.norm = nn.Linear(n_features, 6), nn.BatchNorm1d(6)
        self.block, self.block_norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.dropout, self.head = nn.Dropout(0.1), nn.Linear(6, n_classes)

    def forward(self, X):
        hidden = torch.relu(self.norm(self.first(X)))
        return self.head(self.dropout(torch.relu(self.block_norm(self.block(hidden)))))


class At(Callback):
    """Does something at the begin of an epoch, or after one of its steps."""

    def __init__(self, epoch, action, in_step=False):
        self.epoch, self.action, self.in_step = epoch, action, in_step

    def on_epoch_begin(self, net, **kwargs):
        if not self.in_step and len(net.history) == self.epoch:
            self.action(net)

    def on_batch_end(self, net, training=False, **kwargs):
        if self.in_step and training and len(net.history) == self.epoch:
            self.action(net)


def classifier(weighting="none", **settings):
    options = {"module": Net, "warmup_epochs": 2, "max_epochs": 2, "batch_size": 32, "random_state": 0}
    return ReweightedClassifier(
        weighting=weighting, **{**options, "validation_data": 4, "keep_best": False, **settings}
    )


def after_stage_one(**settings):
    kept = {}
    clf = classifier(callbacks=[At(3, lambda net: kept.update(_copy(net.module_)))], **settings)
    clf.fit(X, Y)
    return kept, clf


def _copy(module):
    return {name: t.clone() for name, t in module.state_dict().items()}


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


HEAD = {"head.weight", "head.bias"}
BLOCK = {"block.weight", "block.bias"}


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("classifier", HEAD),
        (["classifier"], HEAD),
        ("head*", HEAD),
        (["block.*", "classifier"], HEAD | BLOCK),
        (["*.bias"], {"first.bias", "norm.bias", "block.bias", "block_norm.bias", "head.bias"}),
    ],
)
def test_only_what_is_named_moves(trainable, expected):
    """Frozen normalisation layers keep their statistics; one whose bias is trained does not."""
    before, clf = after_stage_one(stage_two_trainable=trainable)
    changed = moved(before, clf.module_.state_dict())
    statistics = {n for n in changed if "running" in n or "tracked" in n}
    trained_norms = {n.split(".")[0] for n in expected if "norm" in n}
    # The linear layers before a norm in training mode have biases without effect, which Adam moves all the same.
    assert changed - statistics == expected
    assert {n.split(".")[0] for n in statistics} == trained_norms


@pytest.mark.parametrize("weighting", [n for n in WEIGHTINGS if n != "lws"])
def test_with_every_weighting(weighting):
    before, clf = after_stage_one(weighting=weighting, stage_two_trainable="classifier")
    changed = moved(before, clf.module_.state_dict())
    assert changed >= HEAD and not changed & {*BLOCK, "first.weight", "norm.running_mean", "norm.weight"}
    assert all(p.requires_grad for p in clf.module_.parameters())


def test_lws_trains_no_part_of_the_network_and_takes_no_names():
    with pytest.raises(ValueError, match="weighting 'lws' trains no part of the network in stage 2"):
        classifier("lws", stage_two_trainable="classifier").fit(X, Y)


def test_frozen_parameters_take_no_gradient_and_no_momentum():
    seen = []

    def look(net):
        seen.append({n: (p.requires_grad, p.grad is None) for n, p in net.module_.named_parameters()})

    optimizer = {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 0.1,
        "lr": 0.1,
    }
    clf = classifier(
        stage_two_trainable="classifier", callbacks=[At(3, look, in_step=True)], **optimizer
    ).fit(X, Y)
    assert all(found == {n: (n in HEAD, n not in HEAD) for n in found} for found in seen)
    assert len(seen) == 4
    assert all(p.requires_grad for p in clf.module_.parameters())


def raise_an_error(net):
    raise RuntimeError("stop")


def press_ctrl_c(net):
    raise KeyboardInterrupt


def test_requires_grad_is_given_back_after_an_error_and_ctrl_c():
    for action in (raise_an_error, press_ctrl_c):
        clf = classifier(stage_two_trainable="classifier", callbacks=[At(4, action, in_step=True)])
        try:
            clf.fit(X, Y)
        except RuntimeError:
            assert action is raise_an_error
        assert all(p.requires_grad for p in clf.module_.parameters())
        assert not clf.progress_.frozen
        clf.set_params(callbacks=None).partial_fit(X, Y)


def test_what_the_user_froze_stays_frozen():
    module = Net()
    module.first.requires_grad_(False)
    clf = classifier(module=module, stage_two_trainable=["first.*", "classifier"])
    clf.fit(X, Y)
    assert [p.requires_grad for p in clf.module_.first.parameters()] == [False, False]
    assert torch.equal(clf.module_.first.weight, module.first.weight)
    assert all(p.requires_grad for n, p in clf.module_.named_parameters() if not n.startswith("first"))
    with pytest.raises(ValueError, match="Stage 2 would train nothing"):
        classifier(module=module, stage_two_trainable="first.*").fit(X, Y)


def test_names_that_are_none():
    with pytest.raises(
        ValueError, match=r"stage_two_trainable names 'tail\.\*', which is no parameter .*head\.weight"
    ):
        classifier(stage_two_trainable=["tail.*"]).fit(X, Y)
    with pytest.raises(ValueError, match="names nothing"):
        classifier(stage_two_trainable=[]).fit(X, Y)


@pytest.mark.parametrize("weighting", ["none", "crt", "hu"])
def test_freezing_follows_the_stage_on_resume(weighting, tmp_path):
    options = {
        "stage_two_trainable": ["block.*", "classifier"],
        "module__n_features": 5,
        "module__n_classes": 3,
    }
    whole = classifier(weighting, **options).fit(X, Y)
    for epoch in (2, 3):
        part = classifier(weighting, callbacks=[At(epoch + 1, press_ctrl_c)], **options).fit(X, Y)
        files = {
            f"f_{name}": str(tmp_path / name) for name in ("params", "optimizer", "history", "weighting")
        }
        part.save_params(**files)
        resumed = classifier(weighting, **options).initialize()
        resumed.load_params(**files)
        resumed.partial_fit(X, Y)
        assert not moved(whole.module_.state_dict(), resumed.module_.state_dict())


class Pickles(Callback):
    """Keeps a pickle of the estimator from the middle of the last epoch."""

    def on_batch_end(self, net, training=False, **kwargs):
        if training and len(net.history) == 4:
            PICKLES.append(pickle.dumps(net))


PICKLES: list[bytes] = []


def test_a_pickle_from_the_middle_of_stage_two_gives_back_too():
    classifier("crt", callbacks=[Pickles()]).fit(X, Y)
    copied = pickle.loads(PICKLES[0])
    assert copied.progress_.frozen
    copied.set_params(callbacks=None).partial_fit(X, Y)
    assert all(p.requires_grad for p in copied.module_.parameters())


# ---------------------------------------------------------------- crt


def test_a_new_head_is_drawn_and_the_optimiser_begins_anew():
    before, clf = after_stage_one(weighting="crt", lr=1e-9)
    assert (before["head.weight"] - clf.module_.head.weight).abs().max() > 0.05
    assert moved(before, clf.module_.state_dict()) == HEAD
    assert len(clf.optimizer_.state) == 2  # of the head alone
    old, clf = after_stage_one(weighting="crt", weighting__new_classifier=False, lr=1e-9)
    assert (old["head.weight"] - clf.module_.head.weight).abs().max() < 1e-6


class HandMade(nn.Module):
    """A last layer without a way to begin anew."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_classes, n_features))

    def forward(self, X):
        return X @ self.weight.T


def test_a_head_that_cannot_begin_anew():
    with pytest.raises(ValueError, match="cannot be made anew: it has no reset_parameters"):
        classifier("crt", module=HandMade).fit(X, Y)
    classifier("crt", module=HandMade, weighting__new_classifier=False).fit(X, Y)


def test_features_of_images_mappings_and_datasets():
    clf = classifier("none", module=MLP, module__hidden=(7,)).fit(X, Y)
    layers = clf.module_.layers
    with torch.no_grad():
        expected = layers[:2](torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(clf.features(X), expected, rtol=1e-6)
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    np.testing.assert_allclose(clf.features(dataset), expected, rtol=1e-6)
    assert not layers[-1]._forward_hooks
    np.testing.assert_allclose(clf.set_params(classifier="layers.0").features(X), X)

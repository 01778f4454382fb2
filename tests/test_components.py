"""Optimisers and criteria: every one of torch's that makes sense, and clear words where one does not."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from skorch.callbacks import Callback
from torch import nn

from skreweight import ReweightedClassifier
from skreweight.losses import BalancedSoftmaxLoss, FocalLoss, LDAMLoss, LogitAdjustedLoss
from skreweight.weighting import WEIGHTINGS

X, Y = make_classification(80, 5, n_informative=4, n_redundant=0, weights=[0.7], random_state=0)
X = X.astype(np.float32)
X3, Y3 = make_classification(90, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
X3 = X3.astype(np.float32)
ALL = pytest.mark.parametrize("weighting", WEIGHTINGS)
OPTIMIZERS = [
    "ASGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "LBFGS",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SGD",
]


def classifier(weighting, **parameters):
    defaults = {
        "module__hidden": (4,),
        "warmup_epochs": 1,
        "max_epochs": 1,
        "batch_size": 40,
        "validation_data": 4,
        "random_state": 3,
        "lr": 1e-2,
    }
    return ReweightedClassifier(weighting=weighting, **{**defaults, **parameters})


def assert_trained(net, X, y):
    """It learned something finite, and has moved away from its start in stage 2."""
    proba = net.fit(X, y).predict_proba(X)
    assert np.isfinite(proba).all()
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert np.isfinite(net.history[:, "train_loss"]).all()
    assert (net.predict(X) == net.classes_[proba.argmax(axis=1)]).mean() > 0.99  # but for ties


# ---------------------------------------------------------------- optimisers


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("weighting", ["two-phase", "ours"])
def test_optimizers(optimizer, weighting):
    assert_trained(classifier(weighting, optimizer=getattr(torch.optim, optimizer)), X, Y)


def test_all_optimizers_of_torch_are_known_here():
    kinds = vars(torch.optim).values()
    found = {k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, torch.optim.Optimizer)}
    assert found - {"Optimizer", "SparseAdam", "Muon"} == set(OPTIMIZERS)


def test_optimizers_that_cannot_say_why():
    with pytest.raises(RuntimeError, match="does not support dense gradients"):
        classifier("none", optimizer=torch.optim.SparseAdam).fit(X, Y)
    if hasattr(torch.optim, "Muon"):
        with pytest.raises(ValueError, match="only supports 2D parameters"):
            classifier("none", optimizer=torch.optim.Muon).fit(X, Y)


@pytest.mark.parametrize("optimizer", ["RMSprop", "LBFGS"])
def test_the_virtual_step_of_other_optimizers_is_refused(optimizer):
    net = classifier("hu", optimizer=getattr(torch.optim, optimizer), weighting__virtual_step="optimizer")
    with pytest.raises(ValueError, match="virtual_step='sgd'"):
        net.fit(X, Y)


@pytest.mark.filterwarnings(
    "ignore:The network gives the same outputs:UserWarning"
)  # so large is the penalty
def test_lbfgs_sees_the_penalty_of_two_phase():
    common = {
        "optimizer": torch.optim.LBFGS,
        "warmup_epochs": 0,
        "max_epochs": 5,
        "lr": 1.0,
        "keep_best": False,
    }
    norms = []
    for coefficient in (0.0, 10.0):
        net = classifier("two-phase", weighting__lp_coef=coefficient, **common).fit(X, Y)
        norms.append(sum(float(p.detach().square().sum()) for p in net.module_.parameters()))
    assert norms[1] < 1e-3 * norms[0]


def test_lbfgs_with_a_line_search_takes_the_penalised_loss():
    net = classifier(
        "two-phase",
        optimizer=torch.optim.LBFGS,
        optimizer__line_search_fn="strong_wolfe",
        weighting__lp_coef=10.0,
        lr=1.0,
        keep_best=False,
        max_epochs=5,
    ).fit(X, Y)
    assert sum(float(p.detach().square().sum()) for p in net.module_.parameters()) < 1e-3


class TwoSteps(torch.optim.SGD):
    """Looks at the gradient again at half a step, as optimisers that ask for a closure do."""

    def step(self, closure):
        before = [p.detach().clone() for p in self.param_groups[0]["params"]]
        super().step()
        with torch.no_grad():
            for p, old in zip(self.param_groups[0]["params"], before, strict=True):
                p.copy_((p + old) / 2)
        closure()
        with torch.no_grad():
            for p, old in zip(self.param_groups[0]["params"], before, strict=True):
                p.copy_(old)
        return super().step()


@ALL
def test_an_optimiser_that_asks_for_a_closure_gets_it(weighting):
    assert_trained(classifier(weighting, optimizer=TwoSteps, lr=0.1), X, Y)


def test_the_closure_is_the_loss_of_the_batch():
    """One batch an epoch: by hand, two steps of the midpoint rule."""
    start = nn.Linear(5, 2)
    net = ReweightedClassifier(
        start, weighting="none", optimizer=TwoSteps, lr=0.5, batch_size=-1, warmup_epochs=1, max_epochs=1
    ).fit(X, Y)
    by_hand = copy.deepcopy(start)
    optimizer = TwoSteps(by_hand.parameters(), lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(by_hand(torch.from_numpy(X)), torch.from_numpy(Y))
        loss.backward()
        return loss

    for _ in range(2):
        closure()
        optimizer.step(closure)
    torch.testing.assert_close(net.module_.weight, by_hand.weight)


def test_learning_rates_by_layer():
    groups = [("*0.weight", {"lr": 0.0}), ("*", {"lr": 0.1})]
    start = classifier("ours", warmup_epochs=0, max_epochs=0).fit(X, Y).module_
    start = dict(start.named_parameters())
    net = classifier("hu", optimizer__param_groups=groups, keep_best=False).fit(X, Y)
    frozen = [n for n in start if n.endswith("0.weight")]
    assert frozen
    for name, tensor in net.module_.named_parameters():
        assert torch.equal(tensor, start[name]) == (name in frozen)


# ---------------------------------------------------------------- criteria


class OneLogit(nn.Module):
    """A linear function with a single output."""

    def __init__(self, n_features, flat=False):
        super().__init__()
        self.linear = nn.Linear(n_features, 1)
        self.flat = flat

    def forward(self, x):
        out = self.linear(x)
        return out.squeeze(1) if self.flat else out


class Probabilities(nn.Module):
    """A linear function with a softmax on top."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x):
        return torch.softmax(self.linear(x), dim=1)


CRITERIA = {
    "label smoothing": {"criterion": nn.CrossEntropyLoss, "criterion__label_smoothing": 0.1},
    "class weights": {"criterion": nn.CrossEntropyLoss, "criterion__weight": torch.tensor([1.0, 3.0, 2.0])},
    "instance": {"criterion": nn.CrossEntropyLoss(label_smoothing=0.2)},
    "multi-margin": {"criterion": nn.MultiMarginLoss},
    "squared multi-margin": {"criterion": nn.MultiMarginLoss, "criterion__p": 2},
    "NLL": {"criterion": nn.NLLLoss, "module": Probabilities, "module__hidden": None},
    "focal": {"criterion": FocalLoss},
    "LDAM": {"criterion": LDAMLoss},
    "logit-adjusted": {"criterion": LogitAdjustedLoss},
    "balanced softmax": {"criterion": BalancedSoftmaxLoss},
}


def with_criterion(weighting, **parameters):
    net = classifier(weighting)
    if "module" in parameters:
        net = ReweightedClassifier(
            weighting=weighting,
            warmup_epochs=1,
            max_epochs=1,
            batch_size=40,
            validation_data=4,
            random_state=3,
        )
        parameters = {k: v for k, v in parameters.items() if k != "module__hidden"}
    return net.set_params(**parameters)


@pytest.mark.filterwarnings("ignore:The classes' numbers of rows are corrected for twice:UserWarning")
@pytest.mark.parametrize("criterion", CRITERIA)
@ALL
def test_criteria(criterion, weighting):
    if criterion == "NLL" and weighting in ("crt", "lws", "tau-norm"):
        pytest.skip("there are no logits: tests/weighting/test_corrections.py has the refusals")
    assert_trained(with_criterion(weighting, **CRITERIA[criterion]), X3, Y3)


@pytest.mark.parametrize("flat", [False, True])
@ALL
def test_a_single_logit(weighting, flat):
    if weighting in ("lws", "tau-norm"):
        pytest.skip("one logit cannot be scaled class by class: tests/weighting/test_corrections.py")
    net = ReweightedClassifier(
        OneLogit,
        module__flat=flat,
        weighting=weighting,
        criterion=nn.BCEWithLogitsLoss,
        warmup_epochs=1,
        max_epochs=1,
        batch_size=40,
        random_state=0,
    )
    labels = np.array(["no", "yes"])[Y]
    assert_trained(net, X, labels)
    np.testing.assert_array_equal(net.predict(X) == "yes", net.decision_function(X) > 0)


def test_a_criterion_instance_of_the_users_is_not_changed():
    criterion = nn.CrossEntropyLoss()
    classifier("hu", criterion=criterion).fit(X, Y)
    assert criterion.reduction == "mean"
    assert type(criterion) is nn.CrossEntropyLoss


class MeanOnly(nn.Module):
    """A criterion of somebody's that knows no reduction."""

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets)


class PerRow(nn.Module):
    """A criterion of somebody's that gives one loss per row."""

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


@ALL
@pytest.mark.parametrize("criterion", [MeanOnly, MeanOnly()])
def test_a_criterion_without_one_loss_per_row(weighting, criterion):
    with pytest.raises(ValueError, match="one loss per row"):
        classifier(weighting, criterion=criterion).fit(X, Y)


@pytest.mark.parametrize("criterion", [PerRow, PerRow()])
def test_a_criterion_of_ones_own(criterion):
    assert_trained(classifier("ours", criterion=criterion), X, Y)


def test_two_outputs_for_a_single_logit_say_how_many():
    with pytest.raises(ValueError, match="BCEWithLogitsLoss"):
        classifier("none", criterion=nn.BCEWithLogitsLoss).fit(X, Y)


class Learned(nn.Module):
    """Cross-entropy at a temperature and with offsets that are learned."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(2))

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(self.scale * outputs + self.offset, targets, reduction="none")


class Inside(nn.Module):
    """The network with the same temperature and offsets as its own last layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(5, 2)
        self.scale = nn.Parameter(torch.ones(()))
        self.offset = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return self.scale * self.linear(x) + self.offset


class Outside(nn.Module):
    """The network without them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(5, 2)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.RMSprop])
@pytest.mark.parametrize("weighting", ["none", "proportion", "two-phase", "absgd"])
def test_a_criterion_that_learns_is_trained_like_a_last_layer(weighting, optimizer):
    inside, outside = (
        ReweightedClassifier(
            module,
            criterion=criterion,
            weighting=weighting,
            optimizer=optimizer,
            warmup_epochs=1,
            max_epochs=3,
            lr=1e-2,
            batch_size=40,
            validation_data=4,
            keep_best=False,
            random_state=3,
        ).fit(X, Y)
        for module, criterion in ((Inside, nn.CrossEntropyLoss), (Outside, Learned))
    )
    torch.testing.assert_close(outside.module_.linear.weight, inside.module_.linear.weight)
    torch.testing.assert_close(outside.criterion_.scale, inside.module_.scale)
    torch.testing.assert_close(outside.criterion_.offset, inside.module_.offset)
    assert abs(outside.criterion_.scale.item() - 1) > 1e-3


@ALL
def test_a_criterion_that_learns_moves_in_both_stages_and_is_kept_with_the_best(weighting):
    scales = []

    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            scales.append(net.criterion_.scale.item())

    parameters = {"warmup_epochs": 2, "max_epochs": 3, "validation_data": 4, "lr": 0.05}
    net = classifier(weighting, criterion=Learned, callbacks=[Look()], **parameters).fit(X, Y)
    assert len({1.0, *scales}) == 6
    accuracy, loss = net.history[:, "valid_acc"], net.history[:, "valid_loss"]
    best = max(range(2, 5), key=lambda epoch: (accuracy[epoch], -loss[epoch]))
    assert net.criterion_.scale.item() == scales[best]

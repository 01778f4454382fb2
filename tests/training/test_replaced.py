"""What a callback replaces in the middle of training is what is trained from there on, or is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from skorch.callbacks import Callback, InputShapeSetter, LRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

from skreweight import ReweightedClassifier
from skreweight.losses import FocalLoss
from skreweight.weighting import WEIGHTINGS

X, Y = make_classification(90, 5, n_informative=4, n_redundant=0, weights=[0.75], random_state=0)
X = X.astype(np.float32)


class Net(nn.Module):
    def __init__(self, input_dim: int = 3, n_hidden: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_dim, n_hidden), nn.Tanh(), nn.Linear(n_hidden, 2))

    def forward(self, X: Tensor) -> Tensor:
        return self.layers(X)


def classifier(weighting: str = "hu", **parameters: Any) -> ReweightedClassifier:
    defaults: dict[str, Any] = {
        "module": Net,
        "module__input_dim": 5,
        "warmup_epochs": 2,
        "max_epochs": 2,
        "batch_size": 32,
        "validation_data": 4,
        "random_state": 3,
        "keep_best": False,
    }
    return ReweightedClassifier(weighting=weighting, **{**defaults, **parameters})


class At(Callback):
    """Does something once, when an event comes for the n-th time."""

    def __init__(self, event: str, then: Any, n: int = 1) -> None:
        self.event, self.then, self.n = event, then, n

    def initialize(self) -> "At":
        self.left_ = self.n
        return self

    def notify(self, method_name: str, net: Any, **kwargs: Any) -> None:
        if method_name == self.event:
            self.left_ -= 1
            if self.left_ == 0:
                self.then(net)

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.notify("on_train_begin", net)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.notify("on_epoch_begin", net)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.notify("on_epoch_end", net)


def parameters_of(net: ReweightedClassifier) -> list[Tensor]:
    return [p.detach().clone() for p in net.module_.parameters()]


def moved(net: ReweightedClassifier, start: list[Tensor]) -> bool:
    return all(not torch.equal(a, b) for a, b in zip(start, parameters_of(net), strict=True))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_an_input_shape_setter_is_obeyed(weighting: str) -> None:
    setter = InputShapeSetter()
    net = classifier(weighting, module__input_dim=3, callbacks=[setter]).fit(X, Y)
    assert net.module_.layers[0].in_features == 5
    assert net.history[:, "stage"] == [1, 1, 2, 2]
    assert set(net.predict(X)) <= {0, 1}


def test_a_module_made_when_training_begins_is_the_one_that_is_trained() -> None:
    start: list[Tensor] = []

    def replace(net: Any) -> None:
        net.set_params(module__n_hidden=7)
        start.extend(parameters_of(net))

    net = classifier(callbacks=[At("on_train_begin", replace)]).fit(X, Y)
    assert net.module_.layers[0].out_features == 7
    assert moved(net, start)
    assert not net.module_.training


def test_another_dtype_when_training_begins() -> None:
    class Double(Net):
        def __init__(self, n_hidden: int = 4, double: bool = False) -> None:
            super().__init__(5, n_hidden)
            self.to(torch.float64 if double else torch.float32)

    start: list[Tensor] = []

    def widen(net: Any) -> None:
        net.set_params(module__double=True)
        start.extend(parameters_of(net))

    callbacks = [At("on_train_begin", widen)]
    net = classifier(module=Double, module__n_hidden=4, callbacks=callbacks)
    del net.module__input_dim
    assert next(net.fit(X, Y).module_.parameters()).dtype == torch.float64
    assert moved(net, start)


@pytest.mark.parametrize("event", ["on_epoch_begin", "on_epoch_end"])
def test_a_module_set_in_the_middle_begins_at_the_first_epoch(event: str) -> None:
    start: list[Tensor] = []

    def replace(net: Any) -> None:
        net.set_params(module__n_hidden=7)
        start.extend(parameters_of(net))

    net = classifier(callbacks=[At(event, replace, n=3)]).fit(X, Y)
    before = {"on_epoch_begin": [1, 1], "on_epoch_end": [1, 1, 2]}[event]
    assert net.history[:, "stage"] == [*before, 1, 1, 2, 2]
    assert moved(net, start)


def test_an_optimizer_set_in_the_middle_takes_the_steps_that_follow() -> None:
    def replace(net: Any) -> None:
        net.set_params(optimizer=torch.optim.AdamW)

    net = classifier(callbacks=[At("on_epoch_end", replace, n=2)]).fit(X, Y)
    n_steps = sum(net.history[2:, "train_batch_count"])
    assert [int(net.optimizer_.state[p]["step"]) for p in net.module_.parameters()] == [n_steps] * 4
    assert net.history[:, "stage"] == [1, 1, 2, 2]


def test_a_schedule_follows_a_new_optimizer() -> None:
    def replace(net: Any) -> None:
        net.set_params(optimizer=torch.optim.SGD, lr=0.5)

    schedule = LRScheduler(policy=StepLR, step_size=1, gamma=0.1)
    net = classifier(lr=0.01, callbacks=[schedule, At("on_epoch_end", replace, n=2)]).fit(X, Y)
    assert dict(net.callbacks_)["LRScheduler"].lr_scheduler_.optimizer is net.optimizer_
    assert net.history[:, "event_lr"] == pytest.approx([0.01, 0.001, 0.5, 0.05])


def test_a_criterion_set_in_the_middle_is_what_is_minimised() -> None:
    seen: list[nn.Module] = []

    class Watched(FocalLoss):
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            seen.append(self)
            return super().forward(input, target)

    def replace(net: Any) -> None:
        net.set_params(criterion=Watched)

    net = classifier("absgd", callbacks=[At("on_epoch_end", replace, n=3)]).fit(X, Y)
    n_batches = net.history[-1, "train_batch_count"]
    assert len(seen) >= n_batches + 1  # every step, and the look at the validation rows
    assert isinstance(net.criterion_, Watched)


@pytest.mark.parametrize("to", sorted(set(WEIGHTINGS) - {"ours"}))
def test_a_weighting_set_in_the_middle_takes_over(to: str) -> None:
    def replace(net: Any) -> None:
        net.set_params(weighting=to)

    net = classifier("ours", callbacks=[At("on_epoch_end", replace, n=3)]).fit(X, Y)
    assert type(net.weighting_) is WEIGHTINGS[to]
    assert net.history[:, "stage"] == [1, 1, 2, 2]
    assert np.isnan(net.example_weights_).sum() == 8


def test_a_weighting_that_lacks_its_validation_rows_is_refused() -> None:
    def replace(net: Any) -> None:
        net.set_params(weighting="hu")

    net = classifier("absgd", validation_data=None, callbacks=[At("on_epoch_end", replace, n=3)])
    with pytest.raises(ValueError, match="Hu needs validation rows"):
        net.fit(X, Y)


def test_a_module_without_its_optimizer_is_refused() -> None:
    def replace(net: Any) -> None:
        net.module_ = Net(5)

    net = classifier(callbacks=[At("on_epoch_begin", replace)])
    with pytest.raises(ValueError, match="steps none of the module's parameters"):
        net.fit(X, Y)


def test_callbacks_know_the_stage_from_the_begin_of_each_epoch() -> None:
    seen: list[int] = []

    class Stages(Callback):
        def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
            seen.append(net.stage_)

    net = classifier(callbacks=[Stages()]).fit(X, Y)
    assert seen == [1, 1, 2, 2] == net.history[:, "stage"]
    assert net.stage_ == 2

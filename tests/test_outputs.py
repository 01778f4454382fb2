"""What a module's outputs may be, and how predictions are made of them."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from torch import nn

from skreweight import ReweightedClassifier
from skreweight._net.predict import are_log_probabilities, are_probabilities
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS, get_weighting

X, Y = make_classification(80, 5, n_informative=4, n_redundant=0, weights=[0.7], random_state=0)
X = X.astype(np.float32)
X3, Y3 = make_classification(90, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=0)
X3 = X3.astype(np.float32)


def chain(n_out: int, *more: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, n_out), *more)


def classifier(module: Any = None, **parameters: Any) -> ReweightedClassifier:
    defaults = {
        "weighting": "none",
        "warmup_epochs": 1,
        "max_epochs": 1,
        "batch_size": 40,
        "validation_data": 5,
        "random_state": 3,
        "lr": 1e-2,
    }
    return ReweightedClassifier(module, **{**defaults, **parameters})


# ---------------------------------------------------------------- NLLLoss


@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize("end", [nn.LogSoftmax(1), nn.Softmax(1)], ids=["logs", "probabilities"])
@pytest.mark.parametrize("weighting", [n for n in WEIGHTINGS if n not in ("crt", "lws", "tau-norm")])
def test_nll_of_logs_or_probabilities_is_cross_entropy(weighting, end, instance):
    loss = nn.NLLLoss() if instance else nn.NLLLoss
    # Another curvature would be that of other outputs.
    method = get_weighting(weighting, **({"curvature": "identity"} if weighting == "ours" else {}))
    net = classifier(chain(3, end), criterion=loss, weighting=method).fit(X3, Y3)
    plain = classifier(chain(3), weighting=method).fit(X3, Y3)
    np.testing.assert_allclose(net.predict_proba(X3), plain.predict_proba(X3), atol=2e-3)
    np.testing.assert_array_equal(net.predict(X3), net.predict_proba(X3).argmax(axis=1))
    np.testing.assert_allclose(net.history[:, "train_loss"], plain.history[:, "train_loss"], rtol=1e-3)


def test_decisions_of_two_classes_from_logs():
    net = classifier(chain(2, nn.LogSoftmax(1)), criterion=nn.NLLLoss).fit(X, Y)
    proba = net.predict_proba(X)
    np.testing.assert_allclose(
        net.decision_function(X), np.log(proba[:, 1] / proba[:, 0]), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    "end", [[], [nn.Sigmoid()], [nn.LogSigmoid()]], ids=["logits", "sigmoids", "log-sigmoids"]
)
def test_nll_of_anything_else_is_refused(end):
    net = classifier(chain(2, *end), criterion=nn.NLLLoss)
    with pytest.raises(ValueError, match=r"log-probabilities or probabilities.*LogSoftmax or Softmax"):
        net.fit(X, Y)
    assert not net.initialized_


def test_a_new_module_may_return_the_other_kind():
    net = classifier(chain(2, nn.LogSoftmax(1)), criterion=nn.NLLLoss).fit(X, Y)
    net.set_params(module=chain(2, nn.Softmax(1))).partial_fit(X, Y)
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    assert np.isfinite(net.history[:, "train_loss"]).all() and min(net.history[:, "train_loss"]) > 0


def test_softmax_before_cross_entropy_is_said():
    with pytest.warns(UserWarning, match="outputs are probabilities.*criterion=torch.nn.NLLLoss"):
        classifier(chain(2, nn.Softmax(1))).fit(X, Y)


def test_kinds_of_outputs():
    logits = 5 * torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    proba, logs = logits.softmax(1), logits.log_softmax(1)
    assert are_probabilities(proba) and not are_log_probabilities(proba)
    assert are_log_probabilities(logs) and not are_probabilities(logs)
    assert not are_probabilities(logits) and not are_log_probabilities(logits)
    certain = torch.eye(4)
    assert are_probabilities(certain) and are_log_probabilities(certain.log())
    assert not are_probabilities(torch.ones(4, 1)) and not are_log_probabilities(torch.zeros(4, 1))


# ---------------------------------------------------------------- number of outputs

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too many": ({"module": chain(3)}, "gives 3 outputs per row and the data has 2 classes"),
    "too many by a parameter": ({"module__n_classes": 3}, "leave module__n_classes out"),
    "one": (
        {"module": chain(1)},
        "one output per row .* 2 classes: CrossEntropyLoss needs .*BCEWithLogitsLoss",
    ),
    "images": ({"module": chain(2, nn.Unflatten(1, (1, 2)))}, r"shape \(40, 1, 2\) for 40 rows"),
    "not by row": ({"module": chain(2, nn.Flatten(0))}, r"shape \(80,\) for 40 rows"),
    "a dict": (
        {"module": type("D", (nn.Linear,), {"forward": lambda s, x: {"z": x @ s.weight.T}})(5, 2)},
        "got dict",
    ),
    "class codes": (
        {"module": type("C", (nn.Linear,), {"forward": lambda s, x: (x @ s.weight.T).argmax(1)})(5, 2)},
        "got torch.int64",
    ),
    "weights of other classes": ({"criterion__weight": torch.ones(5)}, r"criterion__weight has shape \(5,\)"),
    "MSELoss": ({"criterion": nn.MSELoss}, "MSELoss takes no class codes: use torch.nn.CrossEntropyLoss"),
    "BCELoss": ({"criterion": nn.BCELoss()}, "BCELoss takes no class codes: use torch.nn.BCEWithLogitsLoss"),
    "a function": (
        {"criterion": nn.functional.cross_entropy},
        "got the function .*as torch.nn.CrossEntropyLoss",
    ),
    "a name": ({"criterion": "CrossEntropyLoss"}, "got 'CrossEntropyLoss'"),
    "a criterion that lacks an argument": (
        {"criterion": type("L", (nn.Module,), {"__init__": lambda self, tau: None})},
        "needs the argument 'tau': set criterion__tau",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_outputs_and_criteria_that_do_not_fit(case):
    parameters, message = REFUSED[case]
    net = classifier(**parameters)
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not net.initialized_


def test_one_logit_cannot_tell_three_classes_apart():
    with pytest.raises(ValueError, match="3 classes: BCEWithLogitsLoss needs a module with 3 outputs"):
        classifier(chain(1), criterion=nn.BCEWithLogitsLoss).fit(X3, Y3)


def test_outputs_for_classes_that_y_lacks():
    net = classifier(module__n_classes=3, classes=[0, 1, 2], validation_data=None).fit(X, Y)
    assert net.predict_proba(X).shape == (80, 3)


# ---------------------------------------------------------------- predict_nonlinearity


def flipped(outputs):
    return outputs.softmax(1).flip(1)


def as_array(outputs):
    return flipped(outputs).numpy()


def as_tuple(outputs):
    return flipped(outputs), outputs


@pytest.mark.parametrize("nonlinearity", [flipped, as_array, as_tuple])
def test_predict_is_that_of_predict_nonlinearity(nonlinearity):
    plain = classifier().fit(X, Y)
    net = classifier(predict_nonlinearity=nonlinearity, keep_best=False).fit(X, Y)
    plain.set_params(keep_best=False).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X)[:, ::-1])
    np.testing.assert_array_equal(net.predict(X), 1 - plain.predict(X))
    both = np.add(net.history[:, "valid_acc"], plain.history[:, "valid_acc"])
    np.testing.assert_allclose(both, 1)  # the best parameters are those of these predictions


def test_predict_nonlinearity_of_a_single_logit():
    net = classifier(chain(1), criterion=nn.BCEWithLogitsLoss).fit(X, Y)
    auto, labels = net.predict_proba(X), net.predict(X)
    net.set_params(predict_nonlinearity=torch.sigmoid)
    np.testing.assert_allclose(net.predict_proba(X), auto, rtol=1e-5)
    np.testing.assert_array_equal(net.predict(X), labels)
    net.set_params(predict_nonlinearity=lambda z: 1 - torch.sigmoid(z))
    np.testing.assert_array_equal(net.predict(X), 1 - labels)


def test_no_predict_nonlinearity_gives_the_outputs():
    net = classifier(chain(2)).fit(X, Y).set_params(predict_nonlinearity=None)
    np.testing.assert_array_equal(net.predict_proba(X), net.forward(X).numpy())
    np.testing.assert_array_equal(net.predict(X), net.forward(X).argmax(1).numpy())


def test_predict_nonlinearity_must_be_a_function():
    with pytest.raises(ValueError, match="predict_nonlinearity"):
        classifier(predict_nonlinearity="sigmoid").fit(X, Y)


# ---------------------------------------------------------------- size


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_rows_that_overflow_in_prediction_are_named(method):
    net = classifier(MLP).fit(X, Y)
    rows = X.copy()
    rows[[7, 9]] = 3e38
    with pytest.raises(ValueError, match="not finite for 2 of 80 rows, first for row 7 of X"):
        getattr(net, method)(rows)


def test_a_class_of_probability_zero_is_no_overflow():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 3)

        def forward(self, x):
            return self.linear(x).index_fill(1, torch.tensor([2]), -torch.inf)

    net = classifier(Masked, classes=[0, 1, 2], validation_data=None).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X)[:, 2], 0)


class Counting(nn.Module):
    """Notes how many rows come at once."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear, self.sizes = nn.Linear(n_features, n_classes), []

    def forward(self, x):
        self.sizes.append(len(x))
        return self.linear(x)


@pytest.mark.parametrize("kind", ["array", "list", "tensor"])
def test_batches_of_prediction(kind):
    rows = {"array": np.asarray, "list": np.ndarray.tolist, "tensor": torch.from_numpy}[kind](
        np.tile(X, (30, 1))
    )
    net = classifier(Counting).fit(X, Y)
    net.module_.sizes.clear()
    whole = net.predict_proba(rows)
    assert net.module_.sizes == [1024, 1024, 352]
    net.module_.sizes.clear()
    small = net.set_params(iterator_valid__batch_size=700).predict_proba(rows)
    assert net.module_.sizes == [700, 700, 700, 300]
    np.testing.assert_allclose(small, whole, rtol=1e-5)
    assert whole.shape == (2400, 2)


def test_validation_rows_go_through_the_network_in_parts(monkeypatch):
    evaluated: list[int] = []

    def noting(self, x):
        if not self.training:
            evaluated.append(len(x))
        return self.linear(x)

    monkeypatch.setattr(Counting, "forward", noting)
    whole = classifier(Counting, validation_data=10).fit(X, Y)
    assert 20 in evaluated
    evaluated.clear()
    parts = classifier(Counting, validation_data=10, iterator_valid__batch_size=6).fit(X, Y)
    assert set(evaluated) == {6, 2}
    np.testing.assert_allclose(parts.history_[:, "valid_loss"], whole.history_[:, "valid_loss"], rtol=1e-5)


PEAK = """
import resource
import numpy as np
from skreweight import ReweightedClassifier

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

X = np.random.default_rng(0).standard_normal((400_000, 20), dtype=np.float32)
y = (np.arange(2000) % 10 == 0).astype(int)
net = ReweightedClassifier(weighting="none", warmup_epochs=1, max_epochs=0, device="cpu", module__hidden=(400, 400))
net.fit(X[:2000], y).predict(X[:2000])
before = peak()
net.predict(X)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in bytes elsewhere")
def test_memory_of_prediction_does_not_grow_with_the_hidden_layers():
    """The outputs take 3 MiB; small ones between freed activations kept 600 MiB of them from the system."""
    ran = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 64 * 2**20

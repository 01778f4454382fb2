"""What `set_params` refuses changes nothing; what it replaces is forgotten."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import GradientNormClipping

from skreweight import ReweightedClassifier

X, Y = make_classification(120, 5, n_informative=4, n_redundant=0, weights=[0.7], random_state=0)
X = X.astype(np.float32)


def classifier(**parameters: Any) -> ReweightedClassifier:
    defaults = {
        "weighting": "hu",
        "warmup_epochs": 1,
        "max_epochs": 1,
        "validation_data": 5,
        "random_state": 0,
        "lr": 1e-2,
    }
    return ReweightedClassifier(
        **{**defaults, "callbacks": [("clip", GradientNormClipping(1.0))], **parameters}
    )


REFUSED: dict[str, dict[str, Any]] = {
    "a value of the weighting": {"lr": 0.5, "weighting__step_size": -1.0},
    "an unknown parameter of the weighting": {"lr": 0.5, "weighting__nothing": 1},
    "an unknown weighting": {"lr": 0.5, "weighting": "best", "batch_size": 7},
    "an argument of the module": {"lr": 0.5, "module__nothing": 3},
    "a value of the module": {"optimizer__weight_decay": 0.5, "module__hidden": ("a",)},
    "an argument of the criterion": {"weighting__step_size": 3.0, "criterion__nothing": 3},
    "a callback": {"callbacks__clip__gradient_clip_value": 7.0, "callbacks__nobody__x": 3},
    "a value of the optimiser": {
        "batch_size": 7,
        "lr": 0.5,
        "optimizer": torch.optim.SGD,
        "optimizer__nothing": 1,
    },
}


def state_of(net: ReweightedClassifier) -> dict[str, Any]:
    return {
        "parameters": {k: v for k, v in net.get_params(deep=True).items() if "callbacks" not in k},
        "attributes": {k: v for k, v in vars(net).items() if k != "_params_to_validate"},
        "names": set(net._params_to_validate),
        "groups": [{k: v for k, v in g.items() if k != "params"} for g in net.optimizer_.param_groups],
        "clip": dict(net.callbacks_)["clip"].gradient_clip_value,
        "epochs": net.progress_.epochs_done,
    }


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_changes_nothing(case: str) -> None:
    net, untouched = classifier().fit(X, Y), classifier().fit(X, Y)
    before = state_of(net)
    with pytest.raises((ValueError, TypeError)):
        net.set_params(**REFUSED[case])
    after = state_of(net)
    assert after["attributes"].keys() == before["attributes"].keys()
    assert all(after["attributes"][k] is v for k, v in before["attributes"].items())
    for name in ("names", "groups", "clip", "epochs"):
        assert after[name] == before[name]
    assert after["parameters"].keys() == before["parameters"].keys()
    # It trains on as if nobody had asked.
    np.testing.assert_array_equal(
        net.partial_fit(X, Y).predict_proba(X), untouched.partial_fit(X, Y).predict_proba(X)
    )


@pytest.mark.parametrize("fitted", [False, True])
def test_a_parameter_of_a_method_no_longer_chosen_can_be_unset(fitted: bool) -> None:
    net = classifier(weighting="absgd", weighting__lam=0.1)
    if fitted:
        net.fit(X, Y)
    else:
        with pytest.raises(ValueError, match="weighting__lam=None"):
            clone(net).set_params(weighting="hu").fit(X, Y)
    net.set_params(weighting="hu", weighting__lam=None)
    assert "weighting__lam" not in net.get_params()
    net.fit(X, Y)
    clone(net).fit(X, Y)
    net.set_params(weighting="absgd")
    assert net.get_params()["weighting__lam"] == 1.0


def test_none_is_a_value_where_the_method_has_the_parameter() -> None:
    net = classifier(weighting="absgd").set_params(weighting__max_jump=None)
    assert net.get_params()["weighting__max_jump"] is None
    assert net.fit(X, Y).weighting_.max_jump is None


def test_a_grid_over_methods_from_one_that_has_parameters_set() -> None:
    grid = GridSearchCV(
        classifier(weighting="absgd", weighting__lam=0.5, callbacks=None),
        [
            {"weighting": ["none", "hu"], "weighting__lam": [None]},
            {"weighting": ["absgd"], "weighting__lam": [1.0, 2.0]},
        ],
        cv=2,
        error_score="raise",
    )
    assert len(grid.fit(X, Y).cv_results_["params"]) == 4


@pytest.mark.parametrize("name", ["iterator_valid__batch_size", "iterator_train__drop_last"])
def test_iterators_can_be_set_after_fit(name: str) -> None:
    net = classifier(batch_size=40).fit(X, Y).set_params(**{name: 10})
    assert net.get_params()[name] == 10
    assert net.partial_fit(X, Y).predict(X).shape == Y.shape


def test_arguments_of_a_new_optimiser_reach_it() -> None:
    net = classifier().fit(X, Y).set_params(optimizer=torch.optim.SGD, optimizer__momentum=0.7, lr=0.5)
    (group,) = net.optimizer_.param_groups
    assert (group["momentum"], group["lr"]) == (0.7, 0.5)
    assert net.get_params()["optimizer__momentum"] == 0.7
    assert net.initialize().optimizer_.param_groups[0]["momentum"] == 0.7

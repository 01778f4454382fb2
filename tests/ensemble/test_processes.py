"""Members spread over processes: the result of one process but for rounding, and bit for bit in packs of one size."""

import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight._ensemble import chosen, spread, table


def rows(n=121):
    """Folds of these rows are not of one size."""
    X, y = make_classification(n, 5, n_informative=4, n_redundant=0, weights=[0.75], random_state=0)
    return X, np.array(["ant", "bee"])[y]


def net(weighting, **params):
    options = {"warmup_epochs": 2, "max_epochs": 2, "batch_size": 16, "module__hidden": (8,), "device": "cpu"}
    return ReweightedClassifier(weighting=weighting, **(options | params))


def make(estimator=None, **params):
    options = {"n_folds": 4, "n_steps": 40, "device": "cpu", "random_state": 0}
    return ReweightedEnsembleClassifier(estimator, **(options | params))


ENSEMBLES = {
    "recipe": lambda: make(),
    "two kinds": lambda: make([net("hu"), net("absgd", module__dropout=0.2)]),
    "one after another": lambda: make(net("none", optimizer=torch.optim.Adadelta)),
}


def assert_close(found, serial, X):
    """The same seeds, rows and batches; products of packs of another size are rounded in another way."""
    np.testing.assert_allclose(found.predict_proba(X), serial.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(found.oof_proba_, serial.oof_proba_, atol=1e-5)
    np.testing.assert_allclose(found.member_weights_, serial.member_weights_, rtol=1e-4)
    np.testing.assert_array_equal(found.folds_, serial.folds_)
    assert found.member_kinds_.tolist() == serial.member_kinds_.tolist()
    for member, other in zip(found.estimators_, serial.estimators_, strict=True):
        losses = [[row["train_loss"] for row in net.history_] for net in (member, other)]
        np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_two_processes_equal_one(name, monkeypatch):
    X, y = rows()
    ensemble = ENSEMBLES[name]()
    serial = clone(ensemble).fit(X, y)
    n_parts = []

    def spied(function, common, jobs, **kwargs):
        n_parts.append(len(jobs))
        return spread.spread(function, common, jobs, **kwargs)

    monkeypatch.setattr(chosen, "spread", spied)
    monkeypatch.setattr(table, "spread", spied)
    assert_close(clone(ensemble).set_params(n_jobs=2).fit(X, y), serial, X)
    assert n_parts == [4 if name == "two kinds" else 2]


@pytest.mark.parametrize("name", ENSEMBLES)
def test_packs_of_a_given_size_make_the_same_bits_in_two_processes(name):
    """Without `max_pack_size` packs are smaller in two processes, and bits of "two kinds" others."""
    X, y = rows()
    ensemble = ENSEMBLES[name]().set_params(max_pack_size=3)
    serial, found = clone(ensemble).fit(X, y), clone(ensemble).set_params(n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(found.predict_proba(X), serial.predict_proba(X))
    np.testing.assert_array_equal(found.oof_proba_, serial.oof_proba_)
    np.testing.assert_array_equal(found.member_weights_, serial.member_weights_)


@pytest.mark.parametrize(
    ("n_members", "n_jobs", "sizes"), [(10, 3, [3, 3, 4]), (3, 2, [3]), (6, 9, [2, 2, 2])]
)
def test_no_member_is_a_part_by_itself(n_members, n_jobs, sizes, monkeypatch):
    monkeypatch.setattr(spread, "effective_n_jobs", lambda n: n)
    parts = [np.arange(n_members)[part] for part in spread.cut(n_members, n_jobs, None)]
    assert [len(part) for part in parts] == sizes
    assert np.concatenate(parts).tolist() == list(range(n_members))


@pytest.mark.parametrize("n_jobs", [1, 2, 9])
def test_the_size_of_packs_does_not_depend_on_processes(n_jobs, monkeypatch):
    monkeypatch.setattr(spread, "effective_n_jobs", lambda n: n)
    assert spread.cut(10, n_jobs, 4) == [slice(0, 3), slice(3, 6), slice(6, 10)]
    assert spread.cut(2, n_jobs, 1) == [slice(0, 1), slice(1, 2)]


def test_the_bar_moves_when_a_part_is_done(capsys):
    make(verbose=1, n_steps=20, n_jobs=2).fit(*rows())
    assert re.search(r"8 networks, in parts: 100%.*2/2", capsys.readouterr().err)


def test_what_is_wrong_in_another_process_is_said_as_in_one():
    X, y = rows()
    ensemble = make(net("none", lr=1e30))
    with pytest.raises(ValueError, match="not finite") as serial:
        clone(ensemble).fit(X, y)
    with pytest.raises(ValueError, match="not finite") as found:
        clone(ensemble).set_params(n_jobs=2).fit(X, y)
    assert str(found.value) == str(serial.value)


@pytest.mark.filterwarnings("ignore:.*tasks which were still being processed")
def test_ctrl_c_keeps_finished_kinds(monkeypatch):
    """Of the recipe nothing is kept."""
    X, y = rows()
    real = chosen.spread

    def cut_off(function, common, jobs, **kwargs):
        for number, answer in enumerate(real(function, common, jobs, **kwargs)):
            if number == len(jobs) // 2:
                raise KeyboardInterrupt
            yield answer

    monkeypatch.setattr(chosen, "spread", cut_off)
    monkeypatch.setattr(table, "spread", cut_off)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        clf = make([net("none"), net("absgd")], n_jobs=2).fit(X, y)
    assert clf.member_kinds_.tolist() == ["NoWeighting"] * 4
    clf = make(n_jobs=2)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert not hasattr(clf, "estimators_")


def test_ctrl_c_between_packs_keeps_none_of_the_recipe(monkeypatch):
    real, n_packs = table._trained, []

    def cut_off(*args):
        n_packs.append(1)
        if len(n_packs) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(table, "_trained", cut_off)
    clf = make(max_pack_size=4, n_steps=10)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*rows())
    assert not hasattr(clf, "estimators_")


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"n_jobs": 0}, "n_jobs is a number of processes, .* got n_jobs=0"),
        ({"n_jobs": "two"}, "'n_jobs' parameter .* must be"),
        ({"max_pack_size": 0}, "'max_pack_size' parameter .* must be"),
        ({"n_jobs": 2, "checkpoint": "fit.pt"}, "checkpoint is written by one process, .* set n_jobs=1"),
    ],
)
def test_what_is_refused(params, error):
    with pytest.raises(ValueError, match=error):
        make(**params).fit(*rows())

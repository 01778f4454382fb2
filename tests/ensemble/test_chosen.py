"""Members of the user's kinds."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight._ensemble import chosen
from skreweight._pack import fit as pack_fit
from skreweight.weighting import WEIGHTINGS


def rows(n=241, n_classes=2):
    X, y = make_classification(
        n, 5, n_informative=4, n_redundant=0, n_classes=n_classes,
        weights=[0.8] if n_classes == 2 else [0.6, 0.25], class_sep=1.5, random_state=0,
    )  # fmt: skip
    return X, np.array(["ant", "bee", "cow"])[y]


def net(weighting="none", **params) -> ReweightedClassifier:
    options = {"warmup_epochs": 3, "max_epochs": 3, "batch_size": 32, "lr": 0.02, "module__hidden": (8,)}
    return ReweightedClassifier(weighting=weighting, device="cpu", **{**options, **params})


def make(estimator, **params) -> ReweightedEnsembleClassifier:
    return ReweightedEnsembleClassifier(estimator, **{"n_folds": 3, "random_state": 0, **params})


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_weighting(weighting: str, n_classes: int) -> None:
    X, y = rows(n_classes=n_classes)
    clf = make(net(weighting)).fit(X, y)
    assert len(clf.estimators_) == 3 and all(type(n) is ReweightedClassifier for n in clf.estimators_)
    assert np.isfinite(clf.oof_proba_).all() and np.isfinite(clf.example_weights_).all()
    assert clf.member_weights_.shape == (3, len(y))
    for fold, (member, weights) in enumerate(zip(clf.estimators_, clf.member_weights_, strict=True)):
        held = clf.folds_[0] == fold
        assert np.isnan(weights[held]).all(), "neither learned from nor judged on: trained on"
        # of 241 rows and 3 folds, members of one size leave out a row at most
        assert np.isnan(weights[~held]).sum() <= 1
        assert len(member.history_) == 6
    score = clf.oof_proba_[:, 1] if n_classes == 2 else clf.oof_proba_
    assert roc_auc_score(y, score, multi_class="ovr") > 0.6
    assert clf.predict(X).shape == y.shape


def learned_and_judged(monkeypatch: pytest.MonkeyPatch, estimator, X, y, **fit_params):
    seen = {}

    def spied(nets, X, y, rows, **kwargs):
        fits = pack_fit.fit_together(nets, X, y, rows, **kwargs)
        seen.update(nets=nets, rows=rows, fits=fits, judged=kwargs["judged"])
        return fits

    monkeypatch.setattr(chosen, "fit_together", spied)
    clf = make(estimator).fit(X, y, **fit_params)
    return clf, seen


def test_what_is_learned_from_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows()
    clf, seen = learned_and_judged(monkeypatch, net("hu"), X, y)
    assert seen["fits"].packs == [3] and not seen["fits"].alone
    for fold, (member, own) in enumerate(zip(seen["nets"], seen["rows"], strict=True)):
        held = np.flatnonzero(clf.folds_[0] == fold)
        learned, (judged, weights) = own[member.validation_indices_], seen["judged"][fold]
        assert sorted([*learned, *judged]) == held.tolist()
        counts = [(y[learned] == label).sum() for label in ("ant", "bee")]
        fewest = min((y[clf.folds_[0] == k] == "bee").sum() for k in range(3))
        assert counts == [fewest // 2] * 2
        assert weights[y[judged] == "ant"].sum() == pytest.approx(weights[y[judged] == "bee"].sum())
        losses = [row["valid_loss"] for row in member.history_ if row["stage"] == 2]
        loss = log_loss(y[judged], member.predict_proba(clf.encoded(X)[judged]), sample_weight=weights)
        assert loss == pytest.approx(min(losses), rel=1e-4)


def test_calibration_does_not_look_at_rows_that_were_learned_from() -> None:
    X, y = rows()
    clf = make(net("hu")).fit(X, y)
    used = clf._oof_weights > 0
    learned = np.ones(len(y), dtype=bool)
    for split in clf._mixture.kinds[0].splits:
        learned[split.held] = False
    np.testing.assert_array_equal(used, ~learned)
    assert 0.1 < learned.mean() < 0.4


def test_a_pack_equals_members_fitted_one_after_another() -> None:
    class Watch(Callback):
        pass

    X, y = rows()
    packed = make(net("hu")).fit(X, y)
    alone = make(net("hu", callbacks=[("watch", Watch())])).fit(X, y)
    np.testing.assert_allclose(alone.oof_proba_, packed.oof_proba_, atol=1e-4)
    np.testing.assert_allclose(alone.member_weights_, packed.member_weights_, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_packed_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = rows()
    make(net(optimizer=torch.optim.Rprop), verbose=1).fit(X, y)
    said = capsys.readouterr().out
    assert said.count("one after another") == 1 and "3 of 3 networks" in said and "Rprop" in said


def test_kinds_of_a_list_and_their_parameters() -> None:
    X, y = rows()
    clf = make([net("none"), net("absgd"), net("absgd", weighting__lam=2.0)])
    assert clf.get_params()["estimator__2__weighting__lam"] == 2.0
    clf.set_params(estimator__0__lr=0.05, estimator__1__weighting__lam=0.5)
    assert clf.estimator[0].lr == 0.05 and clone(clf).get_params()["estimator__1__weighting__lam"] == 0.5
    clf.fit(X, y)
    assert clf.member_kinds_.tolist() == ["NoWeighting"] * 3 + ["ABSGD 0"] * 3 + ["ABSGD 1"] * 3
    assert clf.oof_proba_.shape == (len(y), 2)
    with pytest.raises(ValueError, match="estimator is a list of 3"):
        clf.set_params(estimator__3__lr=0.1)


def test_grids_reach_the_parameters() -> None:
    X, y = rows(120)
    search = GridSearchCV(make(net("absgd"), n_folds=2), {"estimator__weighting__lam": [0.5, 5.0]}, cv=2).fit(
        X, y
    )
    lam = search.best_params_["estimator__weighting__lam"]
    assert search.best_estimator_.estimators_[0].weighting_.lam == lam
    two_kinds = make([net("none"), net("absgd")], n_folds=2)
    search = GridSearchCV(two_kinds, {"estimator__1__weighting__lam": [0.5, 5.0]}, cv=2).fit(X, y)
    lam = search.best_params_["estimator__1__weighting__lam"]
    assert [n.weighting_.lam for n in search.best_estimator_.estimators_[2:]] == [lam, lam]


@pytest.mark.parametrize("weighting", ["none", "hu", "ours"])
def test_rows_that_are_left_stand_for_the_class_shares(weighting: str) -> None:
    X, y = rows(360)
    keep = np.concatenate([np.flatnonzero(y == "ant"), np.flatnonzero(y == "bee")[:30]])
    X, y = X[keep], y[keep]
    clf = make(net(weighting)).fit(X, y)
    codes = (y == "bee").astype(int)
    sums = np.bincount(codes, clf._oof_weights)
    np.testing.assert_allclose(sums / sums.sum(), clf.class_prior_, rtol=1e-12)
    # half of the rare rows were learned from, and as many common ones
    assert (clf._oof_weights[codes == 1] == 0).mean() == (0 if weighting == "none" else 0.5)
    mean = np.average(clf.oof_proba_, axis=0, weights=clf._oof_weights)
    np.testing.assert_allclose(mean, clf.class_prior_, atol=1e-3)  # calibrated, but for the ridge


@pytest.mark.filterwarnings("ignore:The validation rows are not balanced")
def test_validation_rows_of_the_users_are_what_is_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows()
    clf, seen = learned_and_judged(monkeypatch, net("hu"), X[60:], y[60:], X_val=X[:60], y_val=y[:60])
    for fold, (judged, _) in enumerate(seen["judged"]):
        assert judged.tolist() == np.flatnonzero(clf.folds_[0] == fold).tolist()
    assert all(n.validation_indices_ is None for n in clf.estimators_)
    assert (clf._oof_weights > 0).all()


def test_sample_weights_reach_the_members() -> None:
    X, y = rows()
    weights = np.where(np.arange(len(y)) % 5 == 0, 0.0, 1.5)
    weights[y == "bee"] *= 2
    clf = make(net()).fit(X, y, sample_weight=weights)
    assert np.isnan(clf.member_weights_[:, weights == 0]).all()
    member = clf.member_weights_[0]
    trained = ~np.isnan(member)
    np.testing.assert_allclose(member[trained], weights[trained] / weights[trained].mean(), rtol=1e-5)


def test_modules_for_anything_but_tables() -> None:
    class Images(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(
                torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 2)
            )

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            return self.layers(X)

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 1, 4, 4)).astype(np.float32), np.arange(90) % 3 == 0
    X[y] += 1
    images = ReweightedClassifier(
        Images, weighting="none", warmup_epochs=10, max_epochs=2, lr=1e-2, device="cpu"
    )
    clf = make(images, encoder=None)
    clf.fit(X, y)
    assert roc_auc_score(y, clf.oof_proba_[:, 1]) > 0.65


def test_ctrl_c_keeps_the_kinds_that_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows()
    real, calls = pack_fit.fit_together, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(chosen, "fit_together", interrupted)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        clf = make([net("none"), net("absgd")]).fit(X, y)
    assert set(clf.member_kinds_) == {"NoWeighting"}
    calls[:] = [1]
    with pytest.raises(KeyboardInterrupt):
        make([net("none")]).fit(X, y)


@pytest.mark.parametrize(
    ("estimator", "error", "message"),
    [
        ([], ValueError, "empty list"),
        ([ReweightedEnsembleClassifier()], TypeError, "got ReweightedEnsembleClassifier"),
        (net("hu", validation_data=3), ValueError, "validation_data of the estimator is set"),
        (net("hu", lr=1e30), ValueError, "not finite"),
    ],
)
def test_what_is_refused(estimator, error, message: str) -> None:
    with pytest.raises(error, match=message):
        make(estimator).fit(*rows())


def test_too_few_rows_for_a_weighting_to_learn_from() -> None:
    X, y = rows()
    keep = np.concatenate([np.flatnonzero(y == "ant"), np.flatnonzero(y == "bee")[:2]])
    with pytest.raises(ValueError, match=r"class 'bee' has 2 for 3 members: choose fewer folds"):
        make(net("hu")).fit(X[keep], y[keep])
    assert np.isfinite(make(net("none")).fit(X[keep], y[keep]).oof_proba_).all()

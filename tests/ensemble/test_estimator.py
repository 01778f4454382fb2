"""The ensemble as its users meet it."""

import pickle
import re

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight._ensemble import estimator, progress, recipe
from skreweight.losses import effective_number_weights
from skreweight.preprocessing import TableEncoder

N_FOLDS = 3


def rows(n=240, n_classes=2, seed=0):
    X, y = make_classification(
        n, 6, n_informative=4, n_classes=n_classes, weights=[0.85] if n_classes == 2 else [0.7, 0.2],
        class_sep=1.5, random_state=seed,
    )  # fmt: skip
    return X, np.array(["ant", "bee", "cow"])[y]


def make(**params) -> ReweightedEnsembleClassifier:
    return ReweightedEnsembleClassifier(**{"n_folds": N_FOLDS, "n_steps": 60, "random_state": 0, **params})


@pytest.fixture(scope="module")
def fitted() -> ReweightedEnsembleClassifier:
    return make().fit(*rows())


# ---------------------------------------------------------------- what is learned


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("n_repeats", [1, 2])
def test_learned_attributes(n_classes: int, n_repeats: int) -> None:
    X, y = rows(n_classes=n_classes)
    clf = make(n_repeats=n_repeats).fit(X, y)
    n_members = 2 * N_FOLDS * n_repeats
    assert len(clf.estimators_) == n_members
    assert clf.member_kinds_.tolist() == ["natural"] * (n_members // 2) + ["balanced"] * (n_members // 2)
    assert clf.folds_.shape == (n_repeats, len(y)) and clf.member_weights_.shape == (n_members, len(y))
    held = np.isnan(clf.member_weights_)
    assert (held.sum(axis=0) == 2 * n_repeats).all(), "each row validates once a round with each kind"
    for k, net in enumerate(clf.estimators_):
        assert type(net) is ReweightedClassifier
        assert (clf.folds_[(k // N_FOLDS) % n_repeats] == k % N_FOLDS).tolist() == held[k].tolist()
        np.testing.assert_array_equal(np.flatnonzero(held[k]), net.validation_indices_)
        assert len(net.history_) == recipe.N_LOOKS and np.isfinite(net.history_[:, "valid_loss"]).all()
    assert clf.oof_proba_.shape == (len(y), n_classes) and clf.decision_.shape == (n_classes,)
    np.testing.assert_allclose(clf.oof_proba_.sum(axis=1), 1)
    np.testing.assert_allclose(clf.class_prior_, pd.Series(y).value_counts(normalize=True).sort_index())
    assert np.isfinite(clf.example_weights_).all()
    assert (
        roc_auc_score(y, clf.oof_proba_[:, 1] if n_classes == 2 else clf.oof_proba_, multi_class="ovr") > 0.85
    )
    assert clf.predict_proba(X).shape == (len(y), n_classes)
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(X)), clf.predict_proba(X))
    shape = (len(y),) if n_classes == 2 else (len(y), n_classes)
    assert clf.decision_function(X).shape == shape
    assert balanced_accuracy_score(y, clf.predict(X)) > 0.75


def test_weights_of_rows_sum_to_the_rows_and_classes_weigh_the_same_where_balanced(fitted) -> None:
    y = rows()[1]
    for weights, kind in zip(fitted.member_weights_, fitted.member_kinds_, strict=True):
        trained = ~np.isnan(weights)
        assert weights[trained].sum() == pytest.approx(trained.sum())
        if kind == "natural":
            assert (weights[trained] == 1).all()
        else:
            assert weights[trained & (y == "ant")].sum() == pytest.approx(
                weights[trained & (y == "bee")].sum()
            )


def test_out_of_fold_probabilities_are_the_members_own(fitted) -> None:
    """Row by row: the members that held it out, mixed and calibrated by hand."""
    X, _ = rows()
    x = fitted.encoded(X)
    for row in (0, 7, 100):
        fold = fitted.folds_[0, row]
        natural, balanced = (
            fitted.estimators_[k].predict_proba(x[row : row + 1])[0] for k in (fold, N_FOLDS + fold)
        )
        first = natural / fitted.class_prior_
        mixed = fitted.class_prior_ * np.sqrt(first / first.sum() * balanced)
        mixed /= mixed.sum()
        c = fitted.calibration_
        z = c.temperature * np.log(mixed / fitted.class_prior_) + np.log(fitted.class_prior_) + c.offsets
        np.testing.assert_allclose(fitted.oof_proba_[row], np.exp(z) / np.exp(z).sum(), rtol=1e-6)


def test_calibration_lowers_the_loss_out_of_fold() -> None:
    X, y = rows()
    plain, mended = make(calibration=False).fit(X, y), make().fit(X, y)
    assert plain.calibration_ is None
    assert log_loss(y, mended.oof_proba_) < log_loss(y, plain.oof_proba_)


def test_members_are_what_the_best_of_their_looks_was(fitted) -> None:
    X, y = rows()
    x = fitted.encoded(X)
    for net, kind in zip(fitted.estimators_, fitted.member_kinds_, strict=True):
        held = net.validation_indices_
        weights = np.ones(len(held))
        if kind == "balanced":
            weights = 1 / pd.Series(y[held]).map(pd.Series(y[held]).value_counts()).to_numpy()
        loss = log_loss(y[held], net.predict_proba(x[held]), sample_weight=weights)
        assert loss == pytest.approx(min(net.history_[:, "valid_loss"]), rel=1e-4)


def test_the_same_seed_gives_the_same_and_global_generators_stay(fitted) -> None:
    before = torch.random.get_rng_state()
    again = make().fit(*rows())
    assert torch.equal(before, torch.random.get_rng_state())
    np.testing.assert_array_equal(again.oof_proba_, fitted.oof_proba_)
    assert not np.allclose(make(random_state=1).fit(*rows()).oof_proba_, fitted.oof_proba_)


# ---------------------------------------------------------------- decisions


def test_decisions_change_after_fit_without_training(fitted) -> None:
    X, y = rows()
    clf = pickle.loads(pickle.dumps(fitted))
    proba = clf.predict_proba(X)
    for decision in ("argmax", "prior", "f1_macro", "balanced_accuracy", 0.3, lambda y, p: (y == p).mean()):
        clf.set_params(decision=decision)
        made = clf.predict(X)
        np.testing.assert_array_equal(made, clf.classes_[(clf.decision_function(X) > 0).astype(int)])
        np.testing.assert_array_equal(made, clf.classes_[(np.log(proba) + clf.decision_).argmax(axis=1)])
    np.testing.assert_array_equal(clf.set_params(decision=0.3).predict(X) == "bee", proba[:, 1] > 0.3)
    np.testing.assert_array_equal(
        fitted.predict(X), clf.classes_[(proba / clf.class_prior_).argmax(axis=1)], "auto is prior"
    )
    oof = clf.classes_[
        (np.log(clf.oof_proba_) + clf.set_params(decision="f1_macro").decision_).argmax(axis=1)
    ]
    plain = clf.classes_[clf.oof_proba_.argmax(axis=1)]
    assert f1_score(y, oof, average="macro") >= f1_score(y, plain, average="macro") - 0.005


def test_a_wrong_decision_is_found_before_anything_is_trained() -> None:
    with pytest.raises(ValueError, match=r"did you mean f1_macro\?"):
        make(decision="f1_macroo").fit(*rows())
    with pytest.raises(ValueError, match="for 3 classes"):
        make(decision=0.4).fit(*rows(n_classes=3))


# ---------------------------------------------------------------- weights of rows and classes


def test_rows_of_weight_zero_are_as_good_as_left_out() -> None:
    X, y = rows()
    weights = np.ones(len(y))
    weights[:40] = 0
    clf = make().fit(X, y, sample_weight=weights)
    assert (clf.folds_[:, :40] == -1).all() and (clf.example_weights_[:40] == 0).all()
    np.testing.assert_allclose(clf.class_prior_, pd.Series(y[40:]).value_counts(normalize=True).sort_index())
    flipped = np.where(np.arange(len(y)) < 40, "bee", y)
    other = make().fit(X, flipped, sample_weight=weights)
    np.testing.assert_array_equal(other.oof_proba_[40:], clf.oof_proba_[40:])


def test_weights_of_a_class_move_probabilities_as_its_share_would() -> None:
    X, y = rows()
    weights = np.where(y == "bee", 4.0, 1.0)
    plain, heavy = make().fit(X, y), make().fit(X, y, sample_weight=weights)
    by_class = make(class_weight={"bee": 4.0}).fit(X, y)
    np.testing.assert_array_equal(by_class.oof_proba_, heavy.oof_proba_)
    for clf in (heavy, by_class):
        assert clf.oof_proba_[:, 1].mean() > plain.oof_proba_[:, 1].mean() + 0.03
    shares = np.bincount(y == "bee", weights) / weights.sum()
    np.testing.assert_allclose(heavy.class_prior_, shares)
    np.testing.assert_allclose(by_class.class_prior_, plain.class_prior_)
    assert by_class.decision_.tolist() == [0, 0], "the class weights are the costs"


@pytest.mark.parametrize("name", ["balanced", "effective-number"])
def test_named_class_weights_are_those_of_the_counts(name: str) -> None:
    X, y = rows()
    counts = torch.tensor([(y == "ant").sum(), (y == "bee").sum()], dtype=torch.float64)
    of_classes = len(y) / (2 * counts) if name == "balanced" else effective_number_weights(counts, 0.9999)
    by_hand = make(n_steps=20, class_weight=dict(zip(["ant", "bee"], of_classes.tolist(), strict=True)))
    named = make(n_steps=20, class_weight=name).fit(X, y)
    np.testing.assert_allclose(named.oof_proba_, by_hand.fit(X, y).oof_proba_, atol=1e-5)


def test_sample_weights_are_routed() -> None:
    X, y = rows()
    weights = np.where(y == "bee", 4.0, 1.0)
    with config_context(enable_metadata_routing=True):
        clf = make(n_steps=20).set_fit_request(sample_weight=True)
        pipe = make_pipeline(MinMaxScaler(), clf).fit(X, y, sample_weight=weights)
    direct = make(n_steps=20).fit(pipe[0].transform(X), y, sample_weight=weights)
    np.testing.assert_array_equal(pipe[-1].oof_proba_, direct.oof_proba_)


def test_a_class_without_weight_is_refused() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match="class 'bee' has none"):
        make().fit(X, y, sample_weight=(y == "ant").astype(float))


def test_classes_of_very_few_rows() -> None:
    X, y = rows(n_classes=3)
    few = np.concatenate([np.flatnonzero(y != "cow"), np.flatnonzero(y == "cow")[:1]])
    clf = make(n_folds=5).fit(X[few], y[few])
    assert np.isfinite(clf.oof_proba_).all() and np.isfinite(clf.predict_proba(X)).all()
    assert not np.isnan(clf.member_weights_[:, -1]).any(), "its one row is trained on by all"


# ---------------------------------------------------------------- validation rows of the user's


def test_given_validation_rows_stop_the_members() -> None:
    X, y = rows()
    X_val, y_val = rows(60, seed=0)
    clf = make().fit(X, y, X_val=X_val, y_val=y_val)
    x_val = clf.encoded(X_val)
    net = clf.estimators_[0]
    shares = pd.Series(y).value_counts(normalize=True) / pd.Series(y_val).value_counts(normalize=True)
    loss = log_loss(y_val, net.predict_proba(x_val), sample_weight=pd.Series(y_val).map(shares))
    assert loss == pytest.approx(min(net.history_[:, "valid_loss"]), rel=1e-4)
    with pytest.raises(ValueError, match="must be given together"):
        make().fit(X, y, X_val=X_val)
    with pytest.raises(ValueError, match="y_val has no row of class 'bee'"):
        make().fit(X, y, X_val=X_val[y_val == "ant"], y_val=y_val[y_val == "ant"])


def test_validation_rows_are_routed_and_transformed() -> None:
    X, y = rows()
    X_val, y_val = rows(60)
    with config_context(enable_metadata_routing=True):
        clf = make().set_fit_request(X_val=True, y_val=True)
        pipe = make_pipeline(StandardScaler(), clf, transform_input=["X_val"]).fit(
            X, y, X_val=X_val, y_val=y_val
        )
    scaler = pipe[0]
    direct = make().fit(scaler.transform(X), y, X_val=scaler.transform(X_val), y_val=y_val)
    np.testing.assert_array_equal(pipe[-1].oof_proba_, direct.oof_proba_)


# ---------------------------------------------------------------- tables


def frame(n=200):
    rng = np.random.default_rng(0)
    X, y = rows(n)
    table = pd.DataFrame(X, columns=list("abcdef"))
    table.loc[::7, "a"] = np.nan
    table["when"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 500, n), unit="D")
    table["kind"] = pd.Categorical(rng.choice(["x", "y", "z"], n))
    table["flag"] = rng.random(n) < 0.5
    table["stamp"] = 1.7e9 + 10 * X[:, 0] + X[:, 1]  # float32 knows no steps of less than 128 there
    return table, y


def test_a_table_as_it_comes() -> None:
    table_, y = frame()
    clf = make().fit(table_, y)
    assert clf.feature_names_in_.tolist() == list(table_.columns)
    new = table_.head().copy()
    new["kind"] = "never seen"
    new.loc[0, "b"] = np.nan
    assert np.isfinite(clf.predict_proba(new)).all()
    assert clf.encoded(table_).dtype == np.float32
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(table_[table_.columns[::-1]])
    other = make().fit(pl.DataFrame(table_.to_dict("list")), y)
    np.testing.assert_allclose(other.oof_proba_, clf.oof_proba_, atol=1e-5)


def test_integers_of_dtype_category_are_categories() -> None:
    X, y = rows()
    codes = np.arange(len(y)) % 4 * 20
    numbers = pd.DataFrame({"code": codes, "b": X[:, 0]})
    categories, strings = numbers.astype({"code": "category"}), numbers.astype({"code": str})
    clf, other = make(n_steps=20).fit(categories, y), make(n_steps=20).fit(strings, y)
    np.testing.assert_array_equal(clf.encoded(categories), other.encoded(strings))
    np.testing.assert_array_equal(clf.oof_proba_, other.oof_proba_)
    of_each = np.unique(clf.encoded(categories.assign(b=0.0)), axis=0)
    assert of_each.shape[0] == 4
    distances = np.linalg.norm(of_each[:, None] - of_each[None], axis=-1)[~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(distances, distances[0])  # no category lies between others, as numbers would
    assert make(n_steps=1).fit(numbers, y)._encoding.steps[-1].n_numeric_ == 2


def test_what_float32_cannot_tell_apart_is_scaled_before() -> None:
    table_, y = frame()
    clf = make().fit(table_[["stamp"]].assign(more=np.arange(len(y)) % 5), y)
    stamps = clf.encoded(table_[["stamp"]].assign(more=0))[:, 0]
    different = table_["stamp"].nunique()
    assert len(np.unique(stamps)) > 0.9 * different > len(np.unique(table_["stamp"].astype(np.float32)))


def test_columns_of_many_levels_do_not_carry_labels() -> None:
    table_, y = frame()
    table_["who"] = [f"person {k // 2}" for k in range(len(y))]
    flipped = np.where(np.arange(len(y)) == 3, "bee", y)
    one, other = make(n_steps=1).fit(table_, y), make(n_steps=1).fit(table_, flipped)
    np.testing.assert_array_equal(one.encoded(table_), other.encoded(table_))


def test_levels_that_read_alike_by_min_hash() -> None:
    pytest.importorskip("skrub")
    table_, y = frame()
    table_["who"] = [f"{'teacher' if label == 'bee' else 'driver'} number {k}" for k, label in enumerate(y)]
    only = table_[["who"]]
    clf = make(encoder=TableEncoder(high_cardinality="text")).fit(only, y)
    new = pd.DataFrame({"who": ["teachers, number 9000", "drivers, number 9000"]})
    assert clf.predict(new).tolist() == ["bee", "ant"]


def test_an_encoder_of_ones_own_and_none() -> None:
    X, y = rows()
    scaled = make(encoder=StandardScaler()).fit(X, y)
    np.testing.assert_allclose(scaled.oof_proba_, make(encoder=None).fit(X, y).oof_proba_, atol=1e-3)
    with pytest.raises(ValueError, match="could not convert string to float"):
        make(encoder=None).fit(np.array([["a", "b"]] * len(y), dtype=object), y)


# ---------------------------------------------------------------- tools around scikit-learn


def test_pickle_joblib_and_clone(fitted, tmp_path) -> None:
    X, _ = rows()
    joblib.dump(fitted, tmp_path / "clf.joblib")
    for copy in (pickle.loads(pickle.dumps(fitted)), joblib.load(tmp_path / "clf.joblib")):
        np.testing.assert_array_equal(copy.predict_proba(X), fitted.predict_proba(X))
        np.testing.assert_array_equal(copy.decision_, fitted.decision_)
    assert clone(fitted).get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)
    assert not hasattr(fitted, "partial_fit"), "members would each go on with rows that they hold out"
    assert not hasattr(clone(fitted), "decision_") and not hasattr(clone(fitted), "classes_")


def test_inside_other_estimators() -> None:
    X, y = rows()
    small = make(n_folds=2, n_steps=40)
    search = GridSearchCV(small, {"decision": ["argmax", "prior"]}, cv=2, scoring="balanced_accuracy").fit(
        X, y
    )
    assert search.best_score_ > 0.65 and len(search.cv_results_["params"]) == 2
    proba = CalibratedClassifierCV(small, cv=2).fit(X, y).predict_proba(X)
    assert roc_auc_score(y == "bee", proba[:, 1]) > 0.7
    tuned = TunedThresholdClassifierCV(small, cv=2, scoring="balanced_accuracy").fit(X, y)
    assert balanced_accuracy_score(y, tuned.predict(X)) > 0.7
    result = permutation_importance(search, X, y, n_repeats=2, random_state=0)
    assert result.importances_mean.max() > 0.02


def test_members_work_on_their_own(fitted) -> None:
    X, y = rows()
    net = fitted.estimators_[0]
    assert roc_auc_score(y == "bee", net.predict_proba(fitted.encoded(X))[:, 1]) > 0.8
    assert len(net.history_frame()) == recipe.N_LOOKS


# ---------------------------------------------------------------- training


class InterruptedProgress(progress.MembersProgress):
    """Ctrl-C after some looks."""

    after = 3

    def epoch_ends(self) -> bool:
        super().epoch_ends()
        if len(self._nets[0][0].history) == self.after:
            raise KeyboardInterrupt
        return False


def test_ctrl_c_keeps_what_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows()
    monkeypatch.setattr(estimator, "MembersProgress", InterruptedProgress)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        clf = make().fit(X, y)
    assert all(len(net.history_) == 3 for net in clf.estimators_)
    assert clf.predict_proba(X).shape == (len(y), 2)


def test_ctrl_c_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    class AtOnce(InterruptedProgress):
        def epoch_begins(self, stage) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(estimator, "MembersProgress", AtOnce)
    clf = make()
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*rows())
    assert not hasattr(clf, "estimators_")


def test_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    make(verbose=1, n_steps=20).fit(*rows(60))
    assert re.search(r"6 networks: 100%.*20/20", capsys.readouterr().err)
    make(n_steps=20).fit(*rows(60))
    assert capsys.readouterr().err == ""


def test_the_schedule_runs_over_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []
    monkeypatch.setattr(recipe, "coslog4", lambda share: shares.append(share) or 0.5)
    make(n_steps=60).fit(*rows())
    np.testing.assert_allclose(shares, (np.arange(60) + 0.5) / 60)


def test_coslog4_has_four_waves() -> None:
    ends = [0, 1 / 15, 3 / 15, 7 / 15, 1]
    np.testing.assert_allclose([recipe.coslog4(t) for t in ends], 0, atol=1e-12)
    middles = [(2 ** (k + 0.5) - 1) / 15 for k in range(4)]
    np.testing.assert_allclose([recipe.coslog4(t) for t in middles], 1)


@pytest.mark.parametrize(("n", "steps"), [(100, 300), (960, 300), (1280, 400), (60_000, 700)])
def test_number_of_steps(n: int, steps: int) -> None:
    assert recipe.n_steps_for(n) == steps


def test_regularisation_shrinks_with_many_rare_rows() -> None:
    few, many = (recipe.network(n, 0, "cpu", 5).get_params() for n in (100, 1000))
    assert few["module__dropout"] == 0.15 and few["criterion__label_smoothing"] == 0.1
    assert many["module__dropout"] == pytest.approx(0.15 / 4)
    assert many["criterion__label_smoothing"] == pytest.approx(0.1 / 4)


def test_members_that_diverge_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "coslog4", lambda share: 1e30)
    with pytest.raises(ValueError, match="loss or its gradient is not finite"):
        make().fit(*rows())

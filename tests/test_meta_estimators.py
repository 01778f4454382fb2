"""The estimator inside scikit-learn's and imbalanced-learn's other estimators."""

import numpy as np
import pytest
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from imblearn.under_sampling import RandomUnderSampler
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, StratifiedKFold, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from skreweight import ReweightedClassifier

GENERATOR = np.random.default_rng(0)
CODES = (np.arange(120) % 3 == 0).astype(int)
X = (GENERATOR.normal(size=(120, 4)) + 2 * CODES[:, None]).astype(np.float32)
Y = np.array(["common", "rare"])[CODES]
Y3 = np.arange(120) % 3
X3 = (GENERATOR.normal(size=(120, 4)) + 2 * np.eye(3, 4)[Y3]).astype(np.float32)
FOLDS = StratifiedKFold(2)
SOME = pytest.mark.parametrize("weighting", ["ours", "absgd"])


def classifier(weighting="ours", **parameters):
    defaults = {
        "module__hidden": (6,),
        "warmup_epochs": 3,
        "max_epochs": 2,
        "batch_size": 32,
        "random_state": 3,
        "lr": 3e-2,
    }
    return ReweightedClassifier(weighting=weighting, **{**defaults, **parameters})


@SOME
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(weighting, method):
    net = CalibratedClassifierCV(classifier(weighting), method=method, cv=FOLDS).fit(X, Y)
    proba = net.predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    assert net.score(X, Y) > 0.8


@SOME
def test_tuned_and_fixed_thresholds(weighting):
    tuned = TunedThresholdClassifierCV(
        classifier(weighting), scoring="balanced_accuracy", cv=FOLDS, thresholds=20
    ).fit(X, Y)
    assert tuned.score(X, Y) > 0.8
    fixed = FixedThresholdClassifier(tuned.estimator_, threshold=2.0, pos_label="rare").fit(X, Y)
    assert set(fixed.predict(X)) == {"common"}
    log_odds = FixedThresholdClassifier(
        classifier(weighting), threshold=0.0, response_method="decision_function"
    )
    log_odds.set_params(pos_label="rare").fit(X, Y)
    np.testing.assert_array_equal(log_odds.predict(X), log_odds.estimator_.predict(X))


@SOME
def test_bagging(weighting):
    bag = BaggingClassifier(classifier(weighting), n_estimators=2, max_features=0.6, random_state=0).fit(X, Y)
    assert bag.score(X, Y) > 0.6
    assert bag.estimators_[0].random_state != bag.estimators_[1].random_state


@pytest.mark.parametrize("weighting", ["none", "absgd", "hu"])
def test_adaboost_passes_sample_weights(weighting):
    boosted = AdaBoostClassifier(classifier(weighting), n_estimators=3, random_state=0).fit(X, Y)
    assert boosted.score(X, Y) > 0.8
    assert len(boosted.estimators_) >= 1


@pytest.mark.parametrize("meta", [OneVsRestClassifier, OneVsOneClassifier])
@SOME
def test_one_against_others(meta, weighting):
    net = meta(classifier(weighting)).fit(X3, Y3)
    assert len(net.estimators_) == 3
    assert net.score(X3, Y3) > 0.6


def test_several_targets():
    net = MultiOutputClassifier(classifier("absgd")).fit(X, np.c_[CODES, 1 - CODES])
    assert net.predict(X).shape == (len(X), 2)


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting(voting):
    members = [("ours", classifier()), ("absgd", classifier("absgd")), ("linear", LogisticRegression())]
    net = VotingClassifier(members, voting=voting).fit(X, Y)
    assert net.score(X, Y) > 0.8


def test_stacking():
    members = [("ours", classifier()), ("none", classifier("none"))]
    for method in ("predict_proba", "decision_function"):
        net = StackingClassifier(members, LogisticRegression(), cv=2, stack_method=method).fit(X, Y)
        assert net.score(X, Y) > 0.8


@SOME
def test_self_training(weighting):
    partly = CODES.copy()
    partly[::4] = -1
    net = SelfTrainingClassifier(classifier(weighting), threshold=0.6, max_iter=2).fit(X, partly)
    assert net.score(X, CODES) > 0.8
    assert len(net.estimator_.example_weights_) >= (partly >= 0).sum()


@SOME
def test_permutation_importance(weighting):
    informative = X[:, :1]
    noise = GENERATOR.normal(size=(len(X), 1)).astype(np.float32)
    wide = np.hstack([informative, noise])
    net = classifier(weighting, warmup_epochs=5).fit(wide, Y)
    result = permutation_importance(net, wide, Y, n_repeats=3, scoring="roc_auc", random_state=0)
    assert result.importances_mean[0] > 0.2 > result.importances_mean[1]


@pytest.mark.parametrize("sampler", [RandomOverSampler, RandomUnderSampler])
@SOME
def test_a_sampler_in_a_pipeline(sampler, weighting):
    net = make_imblearn_pipeline(StandardScaler(), sampler(random_state=0), classifier(weighting)).fit(X, Y)
    counts = net[-1].class_counts_
    assert counts[0] == counts[1]
    assert net.score(X, Y) > 0.8


def test_feature_selection():
    selector = SequentialFeatureSelector(classifier("absgd", warmup_epochs=1, max_epochs=1), cv=2)
    selector.set_params(n_features_to_select=1).fit(X[:, :3], Y)
    assert selector.get_support().sum() == 1
    pipe = make_pipeline(selector, classifier()).fit(X[:, :3], Y)
    assert pipe[-1].n_features_in_ == 1

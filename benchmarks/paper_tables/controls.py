"""The controls: other people's classifiers and resampling, each on the rows and the network of the table."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTE, RandomOverSampler
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from benchmarks.paper_tables.experiments import Experiment
from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier

#: (experiment, settings of the grid) -> a fitted classifier with `predict_proba`
Method = Callable[..., Any]


def oversampled(make: Callable[[int, int], Any]) -> Method:
    """Return a method: the same network on rows that were resampled to balance, validation rows included."""

    def fit(experiment: Experiment, **settings: Any) -> Any:
        X, y = experiment.all_rows
        sampler = make(int(np.bincount(y).min()), experiment.seed)
        flat, y = sampler.fit_resample(X.reshape(len(X), -1), y)
        rows = flat.reshape(-1, *X.shape[1:]).astype(np.float32), y
        return experiment.network(rows, weighting="none", **settings)

    return fit


def random_rows(n_rare: int, seed: int) -> RandomOverSampler:
    """Repeat rows at random."""
    return RandomOverSampler(random_state=seed)


def smote_rows(n_rare: int, seed: int) -> SMOTE:
    """Make rows up between neighbours."""
    return SMOTE(random_state=seed, k_neighbors=max(1, min(5, n_rare - 1)))


def from_scikit_learn(make: Callable[[int], BaseEstimator], *, validation_rows: bool) -> Method:
    """Return a method that fits a classifier of scikit-learn's with balanced sample weights."""

    def fit(experiment: Experiment, **settings: Any) -> Any:
        X, y = experiment.all_rows if validation_rows else experiment.training_rows
        model = make(experiment.seed).set_params(**settings)
        weights = compute_sample_weight("balanced", y)
        name = type(model).__name__.lower()
        pipeline = make_pipeline(FunctionTransformer(_flat), model)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # as many epochs as the other networks, no more
            return pipeline.fit(X, y, **{f"{name}__sample_weight": weights})

    return fit


def _flat(X: np.ndarray) -> np.ndarray:
    return X.reshape(len(X), -1)


def boosted_trees(seed: int) -> HistGradientBoostingClassifier:
    """Return trees with as many rounds as they are given."""
    return HistGradientBoostingClassifier(random_state=seed, early_stopping=False)


def scikit_learn_mlp(seed: int) -> MLPClassifier:
    """Return the default network with as many epochs as both stages have."""
    return MLPClassifier((100, 100), max_iter=25, n_iter_no_change=25, random_state=seed)


def logistic_regression(seed: int) -> LogisticRegression:
    """Return multinomial logistic regression on the columns as they are."""
    return LogisticRegression(max_iter=1000)


class _NearestMean(NearestCentroid):
    """scikit-learn's, with probabilities of its own distances: those it has are scaled by each column's spread."""

    def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return softmax(−‖x − m_c‖²), which ranks as `predict` does."""
        p: NDArray[Any] = softmax(-euclidean_distances(X, self.centroids_, squared=True), axis=1)
        return p


def nearest_class_mean(*, on_features: bool, validation_rows: bool) -> Method:
    """Return a method: the class whose mean is nearest, as "cl2n" of Kang et al. (2020).

    Rows are centred by the mean of all training rows and brought to length 1; class means are not.

    Parameters
    ----------
    on_features : bool
        Of what the last layer of the plain network is given, instead of the rows themselves.
    validation_rows : bool
        Whether they are training rows, of the network too.
    """

    def fit(experiment: Experiment, **settings: Any) -> Pipeline:
        X, y = experiment.all_rows if validation_rows else experiment.training_rows
        features: Any = _flat
        if on_features:
            network = experiment.network(weighting="none", train_on_validation=validation_rows, **settings)
            features = network.features
        steps = FunctionTransformer(features), StandardScaler(with_std=False), Normalizer(), _NearestMean()
        return make_pipeline(*steps).fit(X, y)

    return fit


class _Decided:
    """An ensemble whose probabilities are those of its decision, so that their largest is what it predicts."""

    def __init__(self, ensemble: ReweightedEnsembleClassifier) -> None:
        self.ensemble = ensemble

    def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return probabilities times the exponential of `decision_`."""
        p = self.ensemble.predict_proba(X)
        log_p = np.log(np.maximum(p, np.finfo(p.dtype).tiny)) + self.ensemble.decision_
        decided: NDArray[Any] = softmax(log_p, axis=1)
        return decided


def in_an_ensemble(weighting: str | None) -> Method:
    """Return a method: the network in an ensemble that deals out all rows and decides out of fold, by class shares.

    Parameters
    ----------
    weighting : str or None
        Of the table's network; None: the ensemble's own recipe.
    """

    def fit(experiment: Experiment, **settings: Any) -> _Decided:
        recipe, member = experiment.recipe, None
        if weighting is not None:
            both = {**recipe.module_settings, **recipe.stage_one, **recipe.stage_two, **settings}
            member = ReweightedClassifier(recipe.module, weighting=weighting, **both)
        ensemble = ReweightedEnsembleClassifier(member, decision="prior", random_state=experiment.seed)
        return _Decided(ensemble.fit(*experiment.all_rows))

    return fit

"""The rows of a table: every weighting, and the controls without which no row means much."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTE, RandomOverSampler
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.class_weight import compute_sample_weight

from benchmarks.paper_tables.experiments import Experiment
from skreweight.losses import LDAMLoss, LogitAdjustedLoss
from skreweight.weighting import get_weighting

#: (experiment, settings of the grid) -> a fitted classifier with `predict_proba`
Method = Callable[..., Any]


class _Weighted:
    """A network with a weighting; ``settings`` of the grid go before the fixed ones."""

    def __init__(self, weighting: str, **fixed: Any) -> None:
        self.weighting, self.fixed = weighting, fixed

    def __call__(self, experiment: Experiment, **settings: Any) -> Any:
        return experiment.network(weighting=self.weighting, **{**self.fixed, **settings})


def _oversampled(make: Callable[[int, int], Any]) -> Method:
    """The same network on rows that were resampled to balance, validation rows included."""

    def fit(experiment: Experiment, **settings: Any) -> Any:
        X, y = experiment.all_rows
        sampler = make(int(np.bincount(y).min()), experiment.seed)
        flat, y = sampler.fit_resample(X.reshape(len(X), -1), y)
        rows = flat.reshape(-1, *X.shape[1:]).astype(np.float32), y
        return experiment.network(rows, weighting="none", **settings)

    return fit


def _random(n_rare: int, seed: int) -> RandomOverSampler:
    return RandomOverSampler(random_state=seed)


def _smote(n_rare: int, seed: int) -> SMOTE:
    return SMOTE(random_state=seed, k_neighbors=max(1, min(5, n_rare - 1)))


def _from_scikit_learn(make: Callable[[int], BaseEstimator], *, validation_rows: bool) -> Method:
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


def _trees(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(random_state=seed, early_stopping=False)


def _mlp(seed: int) -> MLPClassifier:
    return MLPClassifier((100, 100), max_iter=25, n_iter_no_change=25, random_state=seed)


#: The validation rows are training rows too: no better use of them is a reason to learn weights.
_ALL: dict[str, Any] = {"train_on_validation": True}
_CB = {"class_weight": "effective-number", "defer_class_weight": True}
_LDAM = {"criterion": LDAMLoss, "module__normalized_head": True}

METHODS: dict[str, Method] = {
    "plain": _Weighted("none"),
    "proportion": _Weighted("proportion"),
    "two-phase": _Weighted("two-phase"),
    "Ren et al.": _Weighted("ren"),
    "Hu et al.": _Weighted("hu"),
    "Hu et al., floor 0": _Weighted("hu", weighting__floor=0.0),
    "Hu et al. + R": _Weighted("hu"),
    "ours": _Weighted("ours"),
    "ABSGD": _Weighted("absgd"),
    "plain + validation rows": _Weighted("none", **_ALL),
    "proportion + validation rows": _Weighted("proportion", **_ALL),
    "logit adjustment + validation rows": _Weighted("none", criterion=LogitAdjustedLoss, **_ALL),
    "random oversampling + validation rows": _oversampled(_random),
    "SMOTE + validation rows": _oversampled(_smote),
    "boosted trees + validation rows": _from_scikit_learn(_trees, validation_rows=True),
    "MLPClassifier + validation rows": _from_scikit_learn(_mlp, validation_rows=True),
    "boosted trees": _from_scikit_learn(_trees, validation_rows=False),
    "MLPClassifier": _from_scikit_learn(_mlp, validation_rows=False),
    "SGD (CE)": _Weighted("none"),
    "ABSGD (CE)": _Weighted("absgd"),
    "SGD (CB-CE)": _Weighted("none", **_CB),
    "ABSGD (CB-CE)": _Weighted("absgd", **_CB),
    "SGD (LDAM)": _Weighted("none", **_LDAM),
    "ABSGD (LDAM)": _Weighted("absgd", **_LDAM),
}


def is_default(method: str, settings: Mapping[str, Any]) -> bool:
    """Whether the settings leave every parameter of a method's weighting at the package's default."""
    weighting = getattr(METHODS[TUNED.get(method, method)], "weighting", "none")
    defaults = get_weighting(weighting).get_params()
    own = {k.removeprefix("weighting__"): v for k, v in settings.items() if k.startswith("weighting__")}
    return all(defaults[name] == value for name, value in own.items())


#: Rows that are another row's fits, decided with the threshold tuned on the validation rows.
TUNED = {"plain, tuned threshold": "plain"}

_LIU = (
    "plain",
    "proportion",
    "two-phase",
    "Ren et al.",
    "Hu et al.",
    "Hu et al., floor 0",
    "Hu et al. + R",
    "ours",
    "ABSGD",
)
_CONTROLS = tuple(name for name in METHODS if name.endswith("+ validation rows"))

#: The rows of each kind of table, in their order.
LIU_METHODS = (*_LIU, *_CONTROLS)
IMAGE_METHODS = tuple(name for name in LIU_METHODS if "SMOTE" not in name)
QI_METHODS = tuple(name for name in METHODS if name.startswith(("SGD", "ABSGD (")))
#: All with the same rows, so that each has validation rows to tune a threshold on.
BENCHMARK_METHODS = (*_LIU, "boosted trees", "MLPClassifier")

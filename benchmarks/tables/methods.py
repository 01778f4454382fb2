"""The methods, each a function of the seed that returns a classifier for a table of numbers."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from imblearn.ensemble import BalancedRandomForestClassifier, EasyEnsembleClassifier, RUSBoostClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight.preprocessing import TableEncoder

Method = Callable[[int], Any]


def _encoded(classifier: Any) -> Any:
    return make_pipeline(TableEncoder(), classifier)


def _scaled(classifier: Any) -> Any:
    return make_pipeline(TableEncoder(), StandardScaler(), classifier)


def _tuned(classifier: Any) -> Any:
    return TunedThresholdClassifierCV(classifier, scoring="balanced_accuracy", cv=5)


METHODS: dict[str, Method] = {
    "ensemble": lambda seed: ReweightedEnsembleClassifier(random_state=seed),
    "network": lambda seed: _encoded(ReweightedClassifier(random_state=seed)),
    "network, ours": lambda seed: _encoded(ReweightedClassifier(weighting="ours", random_state=seed)),
    "boosted trees": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    "boosted trees, balanced": lambda seed: HistGradientBoostingClassifier(
        class_weight="balanced", random_state=seed
    ),
    "boosted trees, tuned": lambda seed: _tuned(HistGradientBoostingClassifier(random_state=seed)),
    "MLP": lambda seed: _scaled(MLPClassifier(early_stopping=True, random_state=seed)),
    "logistic regression, balanced": lambda seed: _scaled(
        LogisticRegression(class_weight="balanced", max_iter=5000)
    ),
    "balanced forest": lambda seed: _scaled(BalancedRandomForestClassifier(random_state=seed)),
    "EasyEnsemble": lambda seed: _scaled(EasyEnsembleClassifier(random_state=seed)),
    "RUSBoost": lambda seed: _scaled(RUSBoostClassifier(random_state=seed)),
}


def _of_pytabkit(name: str) -> Method:
    def make(seed: int) -> Any:
        import pytabkit

        return _scaled(getattr(pytabkit, name)(random_state=seed, device="cpu"))

    return make


if find_spec("pytabkit") is not None:
    METHODS |= {"RealMLP": _of_pytabkit("RealMLP_TD_Classifier"), "TabM": _of_pytabkit("TabM_D_Classifier")}

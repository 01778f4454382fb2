"""Neural networks for imbalanced data whose training rows learn how much they weigh."""

from skreweight._classifier import ReweightedClassifier
from skreweight._ensemble.estimator import ReweightedEnsembleClassifier

__version__ = "0.2.0.dev0"

__all__ = ["ReweightedClassifier", "ReweightedEnsembleClassifier", "__version__"]

"""Estimators that stand in another one's place while scikit-learn splits, fits and scores."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics._scorer import _BaseScorer, _MultimetricScorer, _PassthroughScorer
from torch import Tensor

from skreweight._classifier import ReweightedClassifier


class Catcher(ClassifierMixin, BaseEstimator):
    """In the place of a pipeline's last step: keeps what that would be fitted on, and what it would predict for.

    Parameters
    ----------
    net : ReweightedClassifier or None, default=None
        The step itself, which says what metadata it wants.
    """

    def __init__(self, net: ReweightedClassifier | None = None) -> None:
        self.net = net

    def fit(self, X: Any, y: Any = None, **given: Any) -> Self:
        """Keep the arguments."""
        self.fitted_on_ = X, y, given
        return self

    def predict(self, X: Any) -> Any:
        """Return the rows as they arrive here."""
        return X

    def get_metadata_routing(self) -> Any:
        """Return what the step asks for."""
        assert self.net is not None
        return self.net.get_metadata_routing()


class Done(BaseEstimator):
    """In the place of a candidate that is fitted, or has failed.

    Parameters
    ----------
    estimator : object or None, default=None
    error : BaseException or None, default=None
        Raised by `fit`.
    """

    def __init__(self, estimator: Any = None, error: BaseException | None = None) -> None:
        self.estimator = estimator
        self.error = error

    def set_params(self, **params: Any) -> Self:
        """Do nothing: the candidate has its parameters."""
        return self

    def fit(self, X: Any, y: Any = None, **given: Any) -> Self:
        """Raise the error, if there is one."""
        if self.error is not None:
            raise self.error
        return self


class KnownOutputs(ReweightedClassifier):
    """A fitted classifier that answers for rows by their numbers, out of outputs that are known."""

    @classmethod
    def of(cls, net: ReweightedClassifier, n_rows: int, known: list[tuple[NDArray[Any], Tensor]]) -> Self:
        """Return the stand-in.

        Parameters
        ----------
        net : ReweightedClassifier
        n_rows : int
        known : list of (row numbers, outputs)
        """
        own = cls.__new__(cls)
        outputs = torch.full((n_rows, *known[0][1].shape[1:]), torch.nan, dtype=known[0][1].dtype)
        for rows, values in known:
            outputs[torch.from_numpy(np.asarray(rows))] = values
        own.__dict__.update(net.__dict__, outputs_=outputs)
        return own

    def set_params(self, **params: Any) -> Self:
        """Do nothing: the candidate has its parameters."""
        return self

    def fit(self, X: Any, y: Any = None, *_: Any, **given: Any) -> Self:
        """Do nothing: it is fitted."""
        return self

    def _outputs(self, X: Any) -> Tensor:
        outputs: Tensor = self.__dict__["outputs_"][torch.from_numpy(X)]
        return outputs


def reads_predictions_alone(scorer: Any) -> bool:
    """Whether a scorer looks at predictions only, neither at the rows nor at the estimator's insides."""
    if isinstance(scorer, _MultimetricScorer):
        return all(reads_predictions_alone(one) for one in scorer._scorers.values())
    return isinstance(scorer, _BaseScorer | _PassthroughScorer)


def of_done(scorer: Any) -> Any:
    """Return a scorer that scores the estimator that a `Done` stands for."""
    if isinstance(scorer, _MultimetricScorer):
        own = copy.copy(scorer)
        own._scorers = {name: of_done(one) for name, one in scorer._scorers.items()}
        return own
    return _ScorerOfDone(scorer)


class _ScorerOfDone:
    def __init__(self, scorer: Callable[..., Any]) -> None:
        self._scorer = scorer

    def __call__(self, done: Done, *args: Any, **kwargs: Any) -> Any:
        return self._scorer(done.estimator, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_scorer":
            raise AttributeError(f"{type(self).__name__} has no attribute {name}.")
        return getattr(self._scorer, name)

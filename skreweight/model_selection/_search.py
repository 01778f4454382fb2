"""scikit-learn's searches, their candidates trained together."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.utils._param_validation import Interval

from skreweight._training.processes import refuse_to_nest
from skreweight.model_selection._backend import Call, CollectingBackend
from skreweight.model_selection._run import run


class PackedSearch:
    """What makes a search of scikit-learn's train its candidates in packs."""

    n_jobs: int | None
    pre_dispatch: Any
    verbose: int
    max_pack_size: int | None

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Run fit with all sets of parameters, many of them at once.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
        **params
            Of the fits, the scorers and the splitter, as scikit-learn's searches take and route them
            (``sample_weight``, ``X_val``, ``y_val``, ``groups``).

        Returns
        -------
        self
        """
        refuse_to_nest(type(self).__name__, self.estimator)  # type: ignore[attr-defined]
        backend, before = CollectingBackend(self._answer), dict(vars(self))
        try:
            super().fit(X, y, **params)  # type: ignore[misc]
        except BaseException:  # Ctrl-C too: a search that was not fitted is not half fitted
            vars(self).clear()
            vars(self).update(before)
            raise
        finally:
            backend.give_back()
        return self

    def _answer(self, calls: Sequence[Call]) -> list[Any]:
        results, report = run(
            calls,
            n_jobs=self.n_jobs,
            pre_dispatch=self.pre_dispatch,
            max_pack_size=self.max_pack_size,
            verbose=self.verbose,
        )
        if self.verbose:
            print(report)
        return results


_PACK_SIZE: dict[str, list[Any]] = {"max_pack_size": [Interval(Integral, 1, None, closed="left"), None]}


class PackedGridSearchCV(PackedSearch, GridSearchCV):
    """`sklearn.model_selection.GridSearchCV` whose candidates are trained together.

    Candidates, folds and seeds whose last step is a `ReweightedClassifier` become members of packs: networks
    trained at once, in one pass over the rows. Members that agree in all that stage 1 depends on share it. Steps of a
    Pipeline before the classifier are fitted once per fold and setting of theirs. Scores, ``cv_results_`` and
    everything else are those of `GridSearchCV`, to rounding.

    What differs between the members of one pack: the seed, the rows (folds of one size), every parameter of the
    weighting that is a number, ``lr`` and ``optimizer__weight_decay`` (but for weightings that take virtual steps in
    stage 2). What else differs makes packs of its own. What cannot be packed at all (callbacks, torch Datasets,
    recurrent layers, optimisers such as LBFGS, other estimators) is fitted the plain way, over processes.

    Parameters
    ----------
    estimator : estimator
        A `ReweightedClassifier`, or a Pipeline that ends with one; anything else is searched as by `GridSearchCV`.
    param_grid : dict or list of dict
    scoring, refit, cv, error_score, return_train_score
        As in `GridSearchCV`.
    n_jobs : int or None, default=None
        Processes over which packs are spread, by joblib: each gets an equal part of the fits. The results are those of
        one process but for rounding, and bit for bit with ``max_pack_size``.
    verbose : int, default=0
        1 shows a progress bar, where tqdm is installed, and says how many fits were packed and why others were not.
    pre_dispatch : int or str, default="2*n_jobs"
        As in `GridSearchCV`, for what cannot be packed.
    max_pack_size : int or None, default=None
        Packs of at most so many networks, each trained by itself, stage 1 included: they are the same packs however
        many processes there are, and so are the results, bit for bit. None: as many networks of a process's part as
        fit into a quarter of the free memory; on the CPU into twice what X takes, or 256 MiB where that is more.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, multimetric_
        As in `GridSearchCV`. ``mean_fit_time`` is a member's share of the time of its packs.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skreweight import ReweightedClassifier
    >>> from skreweight.model_selection import PackedGridSearchCV
    >>> X, y = make_classification(300, weights=[0.9], random_state=0)
    >>> clf = ReweightedClassifier(weighting="absgd", warmup_epochs=2, max_epochs=2, random_state=0)
    >>> search = PackedGridSearchCV(clf, {"weighting__lam": [0.5, 1, 5]}, cv=3, verbose=1).fit(X, y)
    Fitting 3 folds for each of 3 candidates, totalling 9 fits
    9 of 9 fits were trained in packs (1, of up to 9 networks); 6 shared another one's stage 1.
    >>> len(search.cv_results_["mean_test_score"])
    3
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **GridSearchCV._parameter_constraints,
        **_PACK_SIZE,
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        max_pack_size: int | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.max_pack_size = max_pack_size


class PackedRandomizedSearchCV(PackedSearch, RandomizedSearchCV):
    """`sklearn.model_selection.RandomizedSearchCV` whose candidates are trained together.

    See `PackedGridSearchCV` for what is packed.

    Parameters
    ----------
    estimator : estimator
        A `ReweightedClassifier`, or a Pipeline that ends with one; anything else is searched as by
        `RandomizedSearchCV`.
    param_distributions : dict or list of dict
    n_iter : int, default=10
    random_state : int, RandomState instance or None, default=None
        Of the settings that are drawn.
    scoring, refit, cv, error_score, return_train_score
        As in `RandomizedSearchCV`.
    n_jobs, verbose, pre_dispatch, max_pack_size
        As in `PackedGridSearchCV`.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_, multimetric_
        As in `RandomizedSearchCV`. ``mean_fit_time`` is a member's share of the time of its packs.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import make_classification
    >>> from skreweight import ReweightedClassifier
    >>> from skreweight.model_selection import PackedRandomizedSearchCV
    >>> X, y = make_classification(300, weights=[0.9], random_state=0)
    >>> clf = ReweightedClassifier(weighting="absgd", warmup_epochs=2, max_epochs=2, random_state=0)
    >>> drawn = {"weighting__lam": loguniform(0.1, 10), "lr": loguniform(1e-3, 1e-1)}
    >>> search = PackedRandomizedSearchCV(clf, drawn, n_iter=4, cv=3, random_state=0).fit(X, y)
    >>> sorted(search.best_params_)
    ['lr', 'weighting__lam']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RandomizedSearchCV._parameter_constraints,
        **_PACK_SIZE,
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: Any = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        max_pack_size: int | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.max_pack_size = max_pack_size

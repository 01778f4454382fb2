"""The ensemble: its parameters, and how folds, members, probabilities and the decision are put together."""

from __future__ import annotations

import warnings
from numbers import Integral
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted

from skreweight._ensemble import chosen, table
from skreweight._ensemble.decision import OutOfFold, check_decision, offsets_for
from skreweight._ensemble.encoding import Encoding
from skreweight._ensemble.folds import splits, stratified_folds
from skreweight._ensemble.kinds import Kind, stacked_weights
from skreweight._ensemble.mixture import learned
from skreweight._ensemble.parameters import ParametersOfEstimators, kinds_in
from skreweight._ensemble.probabilities import FloatArray, log_of
from skreweight._ensemble.progress import MembersProgress
from skreweight._ensemble.resuming import begun
from skreweight._ensemble.rows import Table
from skreweight._ensemble.spread import check_n_jobs
from skreweight._net.checkpoint import CheckpointFile
from skreweight._net.criterion import class_weight_vector
from skreweight._rows.carve import check_given_codes, shown
from skreweight._rows.check import encode, labels_of
from skreweight._rows.prepare import sorted_classes


class ReweightedEnsembleClassifier(ClassifierMixin, ParametersOfEstimators):
    """Many networks that each hold out other rows: the best answer on a table, from the table as it comes.

    The rows are dealt out to ``n_folds`` stratified folds. For every fold, members are trained on the other folds
    and stopped where they are best on the fold; over all of them each row trains and validates. Their probabilities
    are mixed, calibrated on the rows that each held out, and turned into labels by a decision that is chosen on
    these rows as well and can be changed at any time.

    Without ``estimator`` the members are those of a recipe for tables: networks after RealMLP
    (`skreweight.modules.TableNet`), for each fold one trained on the rows as they come and one on batches that hold
    every class in equal numbers.

    Parameters
    ----------
    estimator : ReweightedClassifier, list of them, or None, default=None
        Kinds of members, trained on encoded rows; their parameters are set as ``estimator__<name>``, in a list as
        ``estimator__0__<name>``. Weightings that learn from validation rows learn from one half of the member's
        fold; the other half stops the member (the epoch with the smallest loss is kept) and gives the out-of-fold
        probabilities. ``random_state`` of the estimators is not looked at. None: the recipe.
    n_folds : int, default=5
    n_repeats : int, default=1
        How often the rows are dealt out anew; each round has members of its own.
    decision : str, float or callable, default="auto"
        From probabilities to labels. ``"argmax"``: the most probable class, for accuracy. ``"prior"``: the class
        whose probability is largest against its share among the rows, for balanced accuracy and the geometric
        mean of the recalls. The name of a scorer of scikit-learn that looks at predicted labels, such as
        ``"f1_macro"``: offsets of the log-probabilities with which the out-of-fold score is about the best.
        A callable ``(y, predictions) -> float``, larger being better, likewise: for costs. A number: the second
        of two classes from this probability on. ``"auto"``: ``"prior"``, or ``"argmax"`` where ``class_weight``
        says what an error costs. May be set after `fit` without training anew.
    calibration : bool, default=True
        Whether probabilities are calibrated out of fold, by one temperature and an offset a class.
    encoder : "auto", transformer or None, default="auto"
        ``"auto"`` makes numbers of a table as it comes, with gaps, booleans, categories, strings and dates, by
        `skreweight.preprocessing.TableEncoder`, whose categories of many levels do not look at y. None expects
        numbers.
    class_weight : None, "balanced", "effective-number" or dict, default=None
        Multiplies the sample weights, as in scikit-learn's classifiers; probabilities are those of rows that are
        weighted so.
    n_steps : int or None, default=None
        Steps of the optimiser in the recipe. None: 40 epochs, but at least 300 steps and at most 700.
    device : str or torch.device, default="auto"
        Of the recipe's networks. ``"auto"``: CUDA where there is one, else the CPU.
    n_jobs : int or None, default=None
        Processes that train the members, two or more each: the result is that of one but for rounding, or bit for bit
        with ``max_pack_size``. −1: one a core. None: 1, or what `joblib.parallel_config` says. Not with ``checkpoint``.
    max_pack_size : int or None, default=None
        The most members that are trained at once, in the same packs however many processes there are. None: all of
        a process's, which is the fastest.
    random_state : int, RandomState instance or None, default=None
    verbose : int, default=0
        1 shows a progress bar, where tqdm is installed.
    checkpoint : None, str or path, default=None
        A file that `fit` writes after each epoch, whole or not at all. A `fit` with the same data and parameters that
        finds it goes on from it, bit for bit; the file of another fit is refused.
    checkpoint_every : int, default=1
        After how many epochs it is written.

    Attributes
    ----------
    estimators_ : list of ReweightedClassifier
        The fitted members, kind by kind, round by round, fold by fold; they take encoded rows (`encoded`).
    member_kinds_ : ndarray of shape (members,)
        ``"natural"`` or ``"balanced"``, or the name of the estimator's weighting.
    folds_ : ndarray of shape (n_repeats, n_rows)
        The fold of each row in each round; −1 for rows of weight 0.
    oof_proba_ : ndarray of shape (n_rows, n_classes)
        Probabilities of each row by members that were not trained on it, mixed and calibrated as those of
        `predict_proba` are.
    decision_ : ndarray of shape (n_classes,)
        What is added to the log-probabilities before the largest is taken, for the present ``decision``.
    calibration_ : object or None
        With ``temperature`` and ``offsets``.
    example_weights_ : ndarray of shape (n_rows,)
        What a row weighs, the mean over the members that are trained on it; 1: as in the plain mean loss; 0 for
        rows of weight 0.
    member_weights_ : ndarray of shape (members, n_rows)
        The same member by member; NaN where the row is held out.
    classes_ : ndarray of shape (n_classes,)
    class_prior_ : ndarray of shape (n_classes,)
        The (weighted) share of each class among the rows.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Where X had string column names.

    References
    ----------
    Holzmüller et al., "Better by default: strong pre-tuned MLPs and boosted trees on tabular data", 2024.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skreweight import ReweightedEnsembleClassifier
    >>> X, y = make_classification(300, weights=[0.9], random_state=0)
    >>> clf = ReweightedEnsembleClassifier(n_steps=40, random_state=0).fit(X, y)
    >>> clf.oof_proba_.shape
    (300, 2)
    >>> clf.set_params(decision="f1_macro").predict(X[:3]).shape
    (3,)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit", "predict_proba"]), list, None],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "decision": "no_validation",
        "calibration": ["boolean"],
        "encoder": [StrOptions({"auto"}), HasMethods(["fit", "transform"]), None],
        "class_weight": [StrOptions({"balanced", "effective-number"}), dict, None],
        "n_steps": [Interval(Integral, 1, None, closed="left"), None],
        "device": "no_validation",
        "n_jobs": [Integral, None],
        "max_pack_size": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "checkpoint": [str, PathLike, None],
        "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_folds: int = 5,
        n_repeats: int = 1,
        decision: Any = "auto",
        calibration: bool = True,
        encoder: Any = "auto",
        class_weight: Any = None,
        n_steps: int | None = None,
        device: Any = "auto",
        n_jobs: int | None = None,
        max_pack_size: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 1,
    ) -> None:
        self.estimator = estimator
        self.n_folds = n_folds
        self.n_repeats = n_repeats
        self.decision = decision
        self.calibration = calibration
        self.encoder = encoder
        self.class_weight = class_weight
        self.n_steps = n_steps
        self.device = device
        self.n_jobs = n_jobs
        self.max_pack_size = max_pack_size
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Train all members, and choose calibration and decision on the rows that they held out.

        Ctrl-C ends training early and keeps what is trained by then, with a warning; with several processes or packs it
        keeps finished kinds of a list of estimators alone.

        Parameters
        ----------
        X : DataFrame of pandas or polars, or array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
            Labels of any dtype.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            How many times each row counts; a row of weight 0 is left out.
        X_val, y_val : array-like of shape (m, n_features) and (m,), or None
            Validation rows, encoded like X. The recipe's members are stopped where they are best on these
            instead of the rows they held out; weightings of estimators learn from them.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            For parameters or data that cannot be used.
        """
        self._validate_params()
        check_n_jobs(self.n_jobs, self.checkpoint)
        encoding = Encoding(self.encoder, for_recipe=self.estimator is None)
        checked = encoding.check(X, self, reset=True)
        labels = labels_of(X, y)
        check_consistent_length(checked, labels)
        classes = sorted_classes(labels, type(self).__name__)
        check_decision(self.decision, len(classes))
        x = encoding.fit_transform(checked, labels)
        rows = self._rows(encoding, x, encode(labels, classes), classes, sample_weight, X_val, y_val)
        random_state, file = check_random_state(self.random_state), None
        if self.checkpoint is not None:
            file = CheckpointFile(self.checkpoint, self.checkpoint_every)
            random_state = begun(file, self, rows, classes, random_state)
        folds = stratified_folds(
            rows.codes, np.flatnonzero(rows.weights > 0), self.n_folds, self.n_repeats, random_state
        )
        kinds = self._trained(rows, folds, classes, random_state, file)
        self.classes_, self.folds_ = classes, folds
        self._encoding = encoding
        self._learn_of_members(kinds, rows)
        return self

    def _rows(
        self,
        encoding: Encoding,
        x: Any,
        codes: NDArray[np.int64],
        classes: NDArray[Any],
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
    ) -> Table:
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together, got one: pass both, or neither.")
        own = _check_sample_weight(sample_weight, codes, dtype=np.float64, ensure_non_negative=True)
        counts = np.bincount(codes, own, minlength=len(classes)).astype(np.float64)
        if (counts == 0).any():
            raise ValueError(
                f"Every class needs a row of positive sample_weight, class {shown(classes[counts.argmin()])} has none: "
                "leave its rows out."
            )
        weights = own
        if self.class_weight is not None:
            weights = own * class_weight_vector(self.class_weight, counts, classes).numpy()[codes]
        pair = None
        if X_val is not None:
            val_codes = encode(labels_of(X_val, y_val), classes, "y_val")
            check_given_codes(val_codes, classes)
            pair = (encoding.transform(encoding.check(X_val, self)), val_codes)
            check_consistent_length(*pair)
        return Table(x, codes, own, weights, pair)

    def _trained(
        self,
        rows: Table,
        folds: NDArray[np.int64],
        classes: NDArray[Any],
        random_state: np.random.RandomState,
        checkpoint: CheckpointFile | None,
    ) -> list[Kind]:
        progress = MembersProgress(self.verbose)
        members = splits(folds, rows.codes, self.n_folds)
        common: dict[str, Any] = {"n_jobs": self.n_jobs, "max_pack_size": self.max_pack_size}
        common |= {"random_state": random_state, "progress": progress, "checkpoint": checkpoint}
        try:
            if self.estimator is not None:
                kinds = chosen.train(kinds_in(self.estimator), rows, members, classes, **common)
            else:
                kinds = table.train(
                    rows, members, classes, n_steps=self.n_steps, device=self.device, **common
                )
        finally:
            progress.close()
        if progress.was_interrupted:
            warnings.warn(
                "Training was interrupted: the ensemble holds what was trained by then.", stacklevel=3
            )
        return kinds

    def _learn_of_members(self, kinds: list[Kind], rows: Table) -> None:
        """Learn from the members' held-out rows what is made of their probabilities."""
        n_classes = len(self.classes_)
        self.estimators_ = [net for kind in kinds for net in kind.estimators]
        self.member_kinds_ = np.array([kind.name for kind in kinds for _ in kind.estimators])
        self.member_weights_ = stacked_weights(kinds)
        trained = ~np.isnan(self.member_weights_)
        sums = np.where(trained, self.member_weights_, 0.0).sum(axis=0)
        self.example_weights_ = sums / np.maximum(trained.sum(axis=0), 1)
        shares = np.bincount(rows.codes, rows.sample_weights, minlength=n_classes)
        self.class_prior_ = shares / shares.sum()
        self._mixture, self.oof_proba_, self._oof_weights = learned(
            kinds, rows.x, rows.codes, rows.weights, n_classes, calibrates=self.calibration
        )
        self.calibration_ = self._mixture.calibration
        self._oof_codes = rows.codes
        self._decided: tuple[Any, FloatArray] | None = None
        _ = self.decision_  # an error of the user's callable belongs to fit

    @property
    def decision_(self) -> FloatArray:
        """What is added to the log-probabilities before the largest is taken, shape (n_classes,)."""
        if "oof_proba_" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no decision_ before fit.")
        if self._decided is None or self._decided[0] is not self.decision:
            check_decision(self.decision, len(self.classes_))
            rule = self.decision
            if isinstance(rule, str) and rule == "auto":
                rule = "prior" if self.class_weight is None else "argmax"
            self._decided = (self.decision, offsets_for(rule, self._out_of_fold()))
        return self._decided[1]

    def _out_of_fold(self) -> OutOfFold:
        some = self._oof_weights > 0
        return OutOfFold(
            self.oof_proba_[some],
            self._oof_codes[some],
            self._oof_weights[some],
            self.class_prior_,
            self.classes_,
        )

    def encoded(self, X: Any) -> NDArray[Any]:
        """Return the rows as the members take them.

        Parameters
        ----------
        X : DataFrame of pandas or polars, or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_columns)
        """
        check_is_fitted(self, "oof_proba_")
        rows: NDArray[Any] = self._encoding.transform(self._encoding.check(X, self))
        return rows

    def predict_proba(self, X: Any) -> FloatArray:
        """Return class probabilities: the members', mixed and calibrated.

        Parameters
        ----------
        X : DataFrame of pandas or polars, or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Columns in the order of ``classes_``.
        """
        x = self.encoded(X)
        return self._mixture(x)

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : DataFrame of pandas or polars, or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
        """
        return log_of(self.predict_proba(X))

    def decision_function(self, X: Any) -> FloatArray:
        """Return the confidence in each class, by which `predict` decides.

        Parameters
        ----------
        X : DataFrame of pandas or polars, or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,) for two classes, else (n_rows, n_classes)
            The log-probabilities with the offsets of ``decision_``. Two classes: the second's less the first's,
            above 0 where it is predicted.
        """
        scores = self.predict_log_proba(X) + self.decision_
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return a label for each row, by the present ``decision``.

        Parameters
        ----------
        X : DataFrame of pandas or polars, or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        scores = self.decision_function(X)
        codes = (scores > 0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[codes]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        takes_tables = self.encoder is not None
        tags.input_tags.allow_nan = takes_tables
        tags.input_tags.categorical = takes_tables
        tags.input_tags.string = takes_tables
        return tags

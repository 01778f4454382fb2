"""What candidates share that differ in their last step alone: a fold, and the steps before, fitted once."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from skreweight._classifier import ReweightedClassifier
from skreweight._pack.failures import FAILURES, is_own_defect
from skreweight._pack.tables import Table
from skreweight.model_selection._stand_ins import Catcher
from skreweight.model_selection._task import Task


@dataclass
class Unit:
    """Candidates on a fold whose last steps are fitted on the same rows.

    Attributes
    ----------
    tasks : list of Task
    table : Table
        What the last steps are fitted on; one for all folds where nothing is done to the rows.
    rows : ndarray or None
        Which rows of it; None: all.
    scored_on : list of (row numbers of the search's X, features)
        The test fold and, where it is scored as well, the training fold.
    before : estimator
        The search's estimator, its last step in the keeping of a `Catcher`.
    seconds : float
        Time that the steps before took.
    """

    tasks: list[Task]
    table: Table
    rows: NDArray[np.int64] | None
    scored_on: list[tuple[NDArray[np.int64], Any]]
    before: Any
    seconds: float = 0.0
    nets: list[ReweightedClassifier] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nets = [task.last_step[1] for task in self.tasks]

    def whole(self, net: ReweightedClassifier) -> Any:
        """Return the estimator that a candidate is: the fitted steps before, with its own last step."""
        return _with_last_step(self.before, net)


def _with_last_step(estimator: Any, step: Any) -> Any:
    if not isinstance(estimator, Pipeline):
        return step
    own = copy.copy(estimator)
    name, last = own.steps[-1]
    own.steps = [*own.steps[:-1], (name, _with_last_step(last, step))]
    return own


def unit_of(tasks: Sequence[Task], shared: list[Table]) -> Unit | None:
    """Fit what comes before the last step; None where that fails.

    scikit-learn's own ``_fit_and_score`` splits rows and metadata, and the pipeline's own ``fit`` and ``predict`` do
    the rest, with a `Catcher` as last step.

    Parameters
    ----------
    tasks : sequence of Task
        Of one unit.
    shared : list of Table
        Tables that other folds may share; a new one is added.
    """
    task, X = tasks[0], tasks[0].call[1][1]
    path, step = task.last_step
    catcher = Catcher(step)
    estimator = clone(task.estimator).set_params(**{path: catcher}) if path else catcher
    positions = np.arange(_num_samples(X))
    arriving: list[Any] = []

    def look(estimator: Any, X: Any, y: Any = None, **_: Any) -> float:
        arriving.append(estimator.predict(X))
        return 0.0

    started = time.perf_counter()
    try:
        task.as_if(
            estimator, X if path else positions, parameters=None, scorer=look, error_score="raise", verbose=0,
            callback_ctx=None,
        )  # fmt: skip
        arrived, labels, given = _last(estimator).fitted_on_
        table = Table(arrived, labels, **given) if path else _shared(shared, task, arrived, given)
    except FAILURES as error:
        if is_own_defect(error):
            raise
        return None
    parts = [positions[task.settings[name]] for name in ("test", "train")][: len(arriving)]
    if not path:
        arriving = [_safe_indexing(X, rows) for rows in parts]
    return Unit(
        list(tasks),
        table,
        None if path else arrived,
        list(zip(parts, arriving, strict=True)),
        estimator,
        time.perf_counter() - started,
    )


def _last(estimator: Any) -> Any:
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def _shared(known: list[Table], task: Task, rows: NDArray[np.int64], given: dict[str, Any]) -> Table:
    """Return a table of all rows of the search's X, the same for all folds if they were given the same."""
    _, X, y = task.call[1]
    weights = given.get("sample_weight")
    if weights is not None:
        whole = (task.settings["fit_params"] or {}).get("sample_weight")
        if whole is None or not np.array_equal(_safe_indexing(whole, rows), weights):
            raise ValueError("The sample weights are no longer those that were given.")
        weights = whole
    table = Table(X, y, **{**given, "sample_weight": weights})
    for other in known:
        if all(getattr(other, name) is value for name, value in vars(table).items()):
            return other
    known.append(table)
    return table

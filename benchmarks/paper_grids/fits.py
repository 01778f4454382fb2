"""Fits of many settings of a method at once."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.class_weight import compute_sample_weight

from benchmarks.paper_grids.plan import data_of
from benchmarks.paper_tables.evaluation import evaluate
from benchmarks.paper_tables.methods import METHODS
from benchmarks.paper_tables.protocols import Data
from benchmarks.paper_tables.recipes import Recipe
from benchmarks.paper_tables.runner import Run
from skreweight import ReweightedClassifier
from skreweight._pack.fit import fit_on_tables
from skreweight._pack.tables import Table

N_FOLDS = 3
Row = dict[str, Any]


def run_chunk(runs: Sequence[Run], data_home: str | None, *, cross_fitted: bool) -> list[Row]:
    """Fit the settings of one task, draw and method; return a row for each, in their order.

    ``cross_fitted``: the rows' validation figures are those of out-of-fold predictions of all rows, training and
    validation rows alike, and there are no test figures.
    """
    data, recipe = data_of(runs[0].task, runs[0].seed, data_home)
    start = time.process_time()
    rows = (_out_of_fold if cross_fitted else _on_validation)(runs, data, recipe)
    seconds = (time.process_time() - start) / len(runs)
    return [_written(run._asdict() | row | {"seconds": seconds}) for run, row in zip(runs, rows, strict=True)]


def network(run: Run, recipe: Recipe, **more: Any) -> ReweightedClassifier:
    """Return the network of a run, not fitted: both stages in one fit, stage 2 with a new optimiser."""
    method: Any = METHODS[run.method]
    settings = {**recipe.module_settings, **recipe.stage_one, **recipe.stage_two, "restart_stage_two": True}
    settings |= {**method.fixed, **json.loads(run.config)} | more
    return ReweightedClassifier(recipe.module, weighting=method.weighting, random_state=run.seed, **settings)


def _on_validation(runs: Sequence[Run], data: Data, recipe: Recipe) -> list[Row]:
    nets = [network(run, recipe) for run in runs]
    table = Table(data.X_train, data.y_train, None, data.X_val, data.y_val)
    errors = _fitted(nets, [table], [None] * len(nets))
    return [
        {"error": _line(error)} if error else evaluate(net, data)
        for net, error in zip(nets, errors, strict=True)
    ]


def _out_of_fold(runs: Sequence[Run], data: Data, recipe: Recipe) -> list[Row]:
    """Every fold's members carve validation rows of their own, as many a class as the draw has, or a fifth."""
    assert data.X_val is not None and data.y_val is not None
    X = np.concatenate([data.X_train, data.X_val])
    y = np.concatenate([data.y_train, data.y_val])
    folds = list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=runs[0].seed).split(X, y))
    n_rare = min(int(np.bincount(y[train]).min()) for train, _ in folds)
    n_each = max(1, min(len(data.y_val) // 2, n_rare // 2))
    nets = [network(run, recipe, validation_data=n_each) for run in runs for _ in folds]
    errors = _fitted(nets, [Table(X, y)], [train for _ in runs for train, _ in folds])
    rows: list[Row] = []
    for k in range(len(runs)):
        own = slice(k * N_FOLDS, (k + 1) * N_FOLDS)
        error = next((e for e in errors[own] if e), None)
        if error:
            rows.append({"error": _line(error)})
            continue
        proba = np.empty((len(y), 2))
        for net, (_, held) in zip(nets[own], folds, strict=True):
            proba[held] = net.predict_proba(X[held])
        proba /= proba.sum(axis=1, keepdims=True)
        weights = compute_sample_weight("balanced", y)
        rows.append(
            {
                "val_accuracy": float(balanced_accuracy_score(y, proba.argmax(axis=1))),
                "val_loss": float(log_loss(y, proba, sample_weight=weights)),
            }
        )
    return rows


def _fitted(
    nets: list[ReweightedClassifier], tables: list[Table], rows: list[NDArray[np.int64] | None]
) -> list[BaseException | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # strange settings are part of the paper's grid
        return fit_on_tables(nets, tables, [0] * len(nets), rows).errors


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".replace("\n", " ")


def _written(row: Row) -> Row:
    return {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}

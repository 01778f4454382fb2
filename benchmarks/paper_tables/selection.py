"""Which setting of a method counts: the best on validation, or on test as the paper did."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from benchmarks.paper_tables.evaluation import DECISION_METRICS
from benchmarks.paper_tables.methods import TUNED, is_default


def with_tuned_rows(rows: pd.DataFrame, names: tuple[str, ...] = tuple(TUNED)) -> pd.DataFrame:
    """Add the rows that are other rows' fits with the decision tuned on the validation rows."""
    added = [tuned(rows[rows["method"] == TUNED[name]]).assign(method=name) for name in names]
    return pd.concat([rows, *added], ignore_index=True)


def tuned(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the figures of the tuned decision in place of the default's."""
    return rows.assign(**{name: rows[f"tuned_{name}"] for name in DECISION_METRICS})


def at_defaults(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the package's default settings, where a method's grid has them: nothing is chosen."""
    kept = [
        is_default(method, json.loads(config))
        for method, config in zip(rows["method"], rows["config"], strict=True)
    ]
    return rows[np.array(kept, dtype=bool)]


def best_on_validation(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per task, method and seed: the highest validation accuracy, ties by lower loss.

    This is the honest choice: every seed chooses for itself and never sees its test rows. Where there are no
    validation rows or all settings failed, the first setting stands.
    """
    ranked = rows.sort_values(
        ["val_accuracy", "val_loss"], ascending=[False, True], kind="stable", na_position="last"
    )
    return ranked.drop_duplicates(["task", "method", "seed"]).sort_index()


def best_on_test(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each task's and method's setting with the highest mean test accuracy.

    As Liu et al. report. The choice has seen the test rows: its figures are too good, the more so the more
    settings there were.
    """
    setting = ["task", "method", "config"]
    # A setting that failed on some seed is no candidate; where all did, the first stands.
    means = rows.groupby(setting, sort=False)["accuracy"].agg(lambda a: a.mean(skipna=False)).reset_index()
    ranked = means.sort_values("accuracy", ascending=False, kind="stable", na_position="last")
    best = ranked.drop_duplicates(["task", "method"])[setting]
    return rows.merge(best, on=setting)


def mean_and_std(chosen: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return mean and sample standard deviation over seeds in per cent, and how many there are."""
    groups = chosen.groupby(["task", "method"], sort=False)[metric]
    return pd.DataFrame({"mean": 100 * groups.mean(), "std": 100 * groups.std(ddof=1), "n": groups.count()})

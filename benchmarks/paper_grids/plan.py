"""What there is to run: tasks, methods, and the settings of the paper's grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmarks.paper_tables.grids import configurations
from benchmarks.paper_tables.runner import Run
from benchmarks.paper_tables.tables import TABLES

TASKS = {
    "SST-2 20:1000": ("liu5", "20:1000"),
    "SST-2 100:1000": ("liu5", "100:1000"),
    "SST-2 20:1000, TextFCN": ("liu5", "20:1000, TextFCN"),
    "SST-2 100:1000, TextFCN": ("liu5", "100:1000, TextFCN"),
    "APS, class-mean imputation": ("liu9", "class-mean imputation, min-max"),
    "APS, mean imputation": ("liu9", "mean imputation, min-max"),
}
METHODS = ("plain", "proportion", "two-phase", "Hu et al.", "Hu et al. + R", "ours")
#: T' of "ours" in the paper; the cost of a setting grows with it.
CONSTRAINT_STEPS = (1, 5, 10, 15, 30)


def settings_of(method: str, constraint_steps: Sequence[int] = CONSTRAINT_STEPS) -> list[dict[str, Any]]:
    """Return the paper's settings of a method, those of "ours" with these T' only."""
    name = "weighting__n_constraint_steps"
    every = configurations(method, "paper", "liu5")
    return [s for s in every if name not in s or s[name] in constraint_steps]


def some_of(settings: Sequence[dict[str, Any]], n: int | None) -> list[dict[str, Any]]:
    """Return n of the settings, evenly spaced; None or more than there are: all."""
    if n is None or n >= len(settings):
        return list(settings)
    return [settings[round(k * (len(settings) - 1) / max(1, n - 1))] for k in range(n)]


def chunks(
    tasks: Sequence[str],
    methods: Sequence[str],
    draws: int,
    constraint_steps: Sequence[int],
    n_settings: int | None,
    size: int,
) -> list[list[Run]]:
    """Return the runs in groups of one task, draw and method that are trained at once and written together."""
    found = []
    for seed in range(draws):
        for task in tasks:
            for method in methods:
                every = some_of(settings_of(method, constraint_steps), n_settings)
                # Settings that can be stacked lie side by side: they agree in T' and in the norm.
                every = sorted(
                    every,
                    key=lambda s: [s.get(f"weighting__{n}", 0) for n in ("n_constraint_steps", "lp_norm")],
                )
                runs = [
                    Run("grids", "paper", task, method, json.dumps(s, sort_keys=True), seed) for s in every
                ]
                found += [runs[first : first + size] for first in range(0, len(runs), size)]
    return found


def data_of(task: str, seed: int, data_home: str | None) -> tuple[Any, Any]:
    """Return the rows of a draw and the recipe of a task."""
    table, name = TASKS[task]
    protocol, recipe = TABLES[table].tasks[name]
    return protocol(data_home=data_home, seed=seed), recipe("paper")

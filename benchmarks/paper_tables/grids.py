"""The settings tried for each method: a quick grid, and the papers' whole one (Liu et al., section 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.model_selection import ParameterGrid

Settings = dict[str, Any]


def _penalty(largest_power: int) -> dict[str, list[Any]]:
    coefficients = [10.0**power for power in range(-4, largest_power + 1)]
    return {"weighting__lp_norm": [2, 4, 6, 8], "weighting__lp_coef": coefficients}


def _paper(largest_power: int) -> dict[str, dict[str, list[Any]]]:
    penalty = _penalty(largest_power)
    decay = {"weighting__decay": [1.0, 5.0, 10.0]}
    return {
        "two-phase": penalty,
        "Hu et al.": decay,
        "Hu et al., floor 0": decay,
        "Hu et al. + R": {**decay, "weighting__step_size": [1.0, 0.1, 0.01, 0.001], **penalty},
        "ours": {
            "weighting__constraint_step_size": [1e-2, 1e-3, 1e-4, 1e-5],
            "weighting__n_constraint_steps": [1, 5, 10, 15, 30],
            **penalty,
        },
        "ABSGD": {"weighting__lam": [0.1, 1.0, 5.0, 10.0]},
    }


_QUICK: dict[str, dict[str, list[Any]]] = {
    "two-phase": {"weighting__lp_coef": [0.0, 1e-2]},
    "Hu et al.": {"weighting__decay": [1.0, 10.0]},
    "Hu et al., floor 0": {"weighting__decay": [1.0, 10.0]},
    "Hu et al. + R": {"weighting__decay": [1.0, 10.0], "weighting__lp_coef": [1e-3, 1e-2]},
    "ours": {"weighting__damping": [1e-3, 0.1], "weighting__polyak": [0.01, 0.03]},
    "ABSGD": {"weighting__lam": [0.1, 1.0, 5.0]},
}
#: Settings compared with each other, row by row, on draws that the papers' tables do not use.
_CURVATURES: list[dict[str, list[Any]]] = [
    {"weighting__curvature": ["ggn"], "weighting__damping": [1e-3, 0.1]},
    {"weighting__curvature": ["identity"]},
]
_TRIALS: dict[str, list[dict[str, list[Any]]]] = {
    "two-phase": [{}, {"weighting__lp_coef": [1e-3, 1e-2]}],
    "Hu et al.": [
        {"weighting__decay": [1.0, 10.0]},
        {"weighting__floor": [0.0], "weighting__lp_coef": [0.0, 1e-3, 1e-2]},
        {"weighting__lp_coef": [1e-3, 1e-2]},
    ],
    "ours": [
        *(
            {**c, "weighting__floor": [1e-5, 0.0], "weighting__polyak": [0.01, 0.03, 0.1]}
            for c in _CURVATURES
        ),
        *({**c, "weighting__n_constraint_steps": [5]} for c in _CURVATURES),
        {"weighting__curvature": ["identity"], "weighting__n_constraint_steps": [15]},
        {"weighting__decay": [1.0]},
        {"weighting__lp_coef": [1e-3, 1e-2]},
    ],
}
#: Once with the best step kept and a new optimiser at stage 2, once without the one or the other.
_HOW_STAGE_TWO_RUNS: list[dict[str, list[Any]]] = [
    {"keep_best": ["epoch", False]},
    {"keep_best": ["step"], "restart_stage_two": [False]},
]
_QI = {"weighting__lam": [0.1, 1.0, 10.0]}


def configurations(method: str, grid: str, table: str) -> list[Settings]:
    """Return the settings of a method, each a dict for the estimator.

    Parameters
    ----------
    method : str
        A key of `methods.METHODS`.
    grid : {"quick", "paper"}
    table : str
        The benchmark and the sizes of validation sets have no search: their rows are the defaults. Images have
        larger penalties in the paper.
    """
    if method.startswith("ABSGD ("):
        return list(ParameterGrid(_QI))
    if table == "trials":
        compared = [{"keep_best": ["step"], **settings} for settings in _TRIALS.get(method, [{}])]
        return list(ParameterGrid([*compared, *_HOW_STAGE_TWO_RUNS]))
    grids: Mapping[str, Mapping[str, list[Any]]]
    if table in ("benchmark", "validation"):
        grids = {"Hu et al. + R": {"weighting__lp_coef": [1e-2]}}
    elif grid == "quick":
        grids = _QUICK
    else:
        grids = _paper(9 if table == "liu6" else 4)
    # The paper keeps the best step, not the best epoch, by the accuracy on the validation rows.
    step = {"keep_best": ["step"]} if _is_network(method) else {}
    return list(ParameterGrid({**step, **grids.get(method, {})}))


def _is_network(method: str) -> bool:
    return not method.startswith(("boosted", "MLPClassifier"))

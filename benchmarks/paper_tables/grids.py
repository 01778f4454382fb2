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
    "META": [{"weighting__conditional_step": [0.1, 1.0, 10.0, 100.0]}, {"weighting__beta": [0.99, 0.999]}],
    "Meta-Weight-Net": [
        {"weighting__net_lr": [1e-3, 1e-2, 5e-2]},
        {"weighting__net_lr": [1e-2, 5e-2], "weighting__through_loss": [True]},
        {"weighting__net_optimizer": ["sgd"], "weighting__net_lr": [1.0, 10.0]},
    ],
    "TERM": [
        {"weighting__t": [1.0, 3.0, 5.0], "weighting__update": [0.1]},
        {"weighting__t": [3.0], "weighting__update": [0.02, 0.5]},
    ],
    "top loss": [{"weighting__keep": [0.05, 0.1, 0.2, 0.5]}],
    "EG": [{"weighting__eta": [-0.3, -0.1, -0.03]}, {"weighting__decay": [1.1]}],
    "cRT": [{}, {"weighting__new_classifier": [False]}, {"weighting__sampling": ["sqrt"]}],
    "LWS": [{}, {"weighting__lr": [0.02, 0.2]}],
    "tau-norm": [{}, {"weighting__keep_bias": [True]}],
    "logit adjustment, post hoc": [{}, {"weighting__tau": [None]}],
}
#: Methods that were tried in each way that stage 2 can run; `restart` is the table for the others.
_TRIALS_OF_STAGE_TWO = ("plain", "two-phase", "Hu et al.", "ours")
#: Once with the best step kept and a new optimiser at stage 2, once without the one or the other.
_HOW_STAGE_TWO_RUNS: list[dict[str, list[Any]]] = [
    {"keep_best": ["epoch", False]},
    {"keep_best": ["step"], "restart_stage_two": [False]},
]
#: With the default otherwise: every method from a new optimiser and from the one of stage 1, best epoch kept.
_RESTART: dict[str, list[Any]] = {"restart_stage_two": [True, False]}
_QI = {"weighting__lam": [0.1, 1.0, 10.0]}
_IMDB = {"weighting__lam": [1.0, 5.0, 10.0]}


def configurations(method: str, grid: str, table: str) -> list[Settings]:
    """Return the settings of a method, each a dict for the estimator.

    Parameters
    ----------
    method : str
        A key of `methods.METHODS`.
    grid : {"quick", "paper"}
    table : str
        The benchmark, the sizes of validation sets and, but for λ, the tables of Qi et al. have no search: their
        rows are the defaults. Images have larger penalties in the paper.
    """
    if table.startswith("qi") or table == "imdb":
        searched = _IMDB if table == "imdb" else _QI
        return list(ParameterGrid(searched)) if method.startswith("ABSGD (") else [{}]
    if table == "restart":
        return list(ParameterGrid(_RESTART)) if _is_network(method) else [{}]
    if table == "trials":
        compared = [{"keep_best": ["step"], **settings} for settings in _TRIALS.get(method, [{}])]
        alike = _HOW_STAGE_TWO_RUNS if method in _TRIALS_OF_STAGE_TWO else []
        return list(ParameterGrid([*compared, *alike]))
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
    return not method.startswith(
        ("boosted", "ensemble", "MLPClassifier", "balanced logistic", "nearest class mean on X")
    )

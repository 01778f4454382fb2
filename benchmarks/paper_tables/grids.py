"""The settings tried for each method: a quick grid, and the papers' whole one (Liu et al., section 4.1)."""

from __future__ import annotations

from typing import Any

from sklearn.model_selection import ParameterGrid

Settings = dict[str, Any]

_STEP = {"keep_best": ["step"]}
_NONE: dict[str, list[Any]] = {}


def _penalty(largest_power: int) -> dict[str, list[Any]]:
    coefficients = [10.0**power for power in range(-4, largest_power + 1)]
    return {"weighting__lp_norm": [2, 4, 6, 8], "weighting__lp_coef": coefficients}


def _paper(largest_power: int) -> dict[str, Any]:
    penalty = _penalty(largest_power)
    decay = {"weighting__decay": [1.0, 5.0, 10.0]}
    return {
        "two-phase": {**_STEP, **penalty},
        "Hu et al.": {**_STEP, **decay},
        "Hu et al. + R": {**_STEP, **decay, "weighting__step_size": [1.0, 0.1, 0.01, 0.001], **penalty},
        "ours": {
            **_STEP,
            "weighting__constraint_step_size": [1e-2, 1e-3, 1e-4, 1e-5],
            "weighting__n_constraint_steps": [1, 5, 10, 15, 30],
            **penalty,
        },
        "ABSGD": {"weighting__lam": [0.1, 1.0, 5.0, 10.0]},
    }


_QUICK = {
    "two-phase": [_NONE, {"weighting__lp_coef": [1e-3, 1e-2]}],
    "Hu et al.": {"weighting__decay": [1.0, 10.0]},
    "Hu et al. + R": {"weighting__decay": [1.0, 10.0], "weighting__lp_coef": [1e-3, 1e-2]},
    "ours": [
        {"weighting__curvature": ["ggn", "identity"], "weighting__decay": [1.0, 10.0]},
        {"weighting__lp_coef": [1e-3]},
    ],
    "ABSGD": {"weighting__lam": [0.1, 1.0, 5.0]},
}
_QI = {"weighting__lam": [0.1, 1.0, 10.0]}


def configurations(method: str, grid: str, table: str) -> list[Settings]:
    """Return the settings of a method, each a dict for the estimator.

    Parameters
    ----------
    method : str
        A key of `methods.METHODS`.
    grid : {"quick", "paper"}
    table : str
        The benchmark has no search: its rows are the defaults. Images have larger penalties in the paper.
    """
    if method.startswith("ABSGD ("):
        return list(ParameterGrid(_QI))
    if table == "benchmark":
        return [{"weighting__lp_coef": 1e-2}] if method.endswith("+ R") else [{}]
    if grid == "quick":
        return list(ParameterGrid(_QUICK.get(method, _NONE)))
    return list(
        ParameterGrid(
            _paper(9 if table == "liu6" else 4).get(method, _STEP if _is_network(method) else _NONE)
        )
    )


def _is_network(method: str) -> bool:
    return not method.startswith(("boosted", "MLPClassifier"))

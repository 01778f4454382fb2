"""Whether a checkpoint is that of an ensemble's fit, and the random state that this one began with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skreweight._ensemble.rows import Table
from skreweight._net.checkpoint import CheckpointFile
from skreweight._rows.fingerprint import of_rows, of_value

#: Parameters on which the members do not depend.
WITHOUT_EFFECT = ("n_jobs", "verbose", "checkpoint", "checkpoint_every", "decision", "calibration")


def begun(
    file: CheckpointFile,
    ensemble: BaseEstimator,
    rows: Table,
    classes: NDArray[Any],
    random_state: np.random.RandomState,
) -> np.random.RandomState:
    """Return the random state that the fit of the file began with, or the given one where there is no file.

    Raises
    ------
    ValueError
        Where the file is that of another fit.
    """
    found = file.start.get("random_state")
    if found is not None:
        random_state = np.random.RandomState()
        random_state.set_state((found[0], found[1].numpy().astype(np.uint32), *found[2:]))
    name, keys, *rest = random_state.get_state(legacy=True)
    own = [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest]
    file.belongs_to(_fingerprint(ensemble, rows, classes), {"random_state": own})
    return random_state


def _fingerprint(ensemble: BaseEstimator, rows: Table, classes: NDArray[Any]) -> dict[str, str]:
    params = {
        name: type(value).__qualname__ if isinstance(value, BaseEstimator) else of_value(value)
        for name, value in sorted(ensemble.get_params(deep=True).items())
        if name.split("__")[-1] not in WITHOUT_EFFECT and "callbacks__" not in name
    }
    validation = "" if rows.validation is None else "".join(map(of_rows, rows.validation))
    return {
        "the estimator": type(ensemble).__qualname__,
        **params,
        "X": of_rows(rows.x),
        "y": of_rows(rows.codes) + of_value(classes.tolist()),
        "sample_weight": of_rows(rows.weights),
        "X_val and y_val": validation,
    }

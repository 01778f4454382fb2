"""A draw with its recipe; stage 1 is trained once and shared by the rows of the table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks.paper_tables.protocols import Data
from benchmarks.paper_tables.recipes import Recipe
from skreweight import ReweightedClassifier

#: Settings that hold from stage 1 on.
STAGE_ONE_TOO = ("criterion", "train_on_validation", "sampling")


class Experiment:
    """What every method of a table gets for one seed.

    Stage 2 begins with a new optimiser, as the paper's Table 3 lists one for each stage; therefore all
    methods can begin it from the same trained network.
    """

    def __init__(self, data: Data, recipe: Recipe, seed: int) -> None:
        self.data, self.recipe, self.seed = data, recipe, seed
        self._starts: dict[str, nn.Module] = {}

    @property
    def training_rows(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """X and y without the validation rows."""
        return self.data.X_train, self.data.y_train

    @cached_property
    def all_rows(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """X and y of the training rows with the validation rows behind them."""
        data = self.data
        if data.X_val is None:
            return self.training_rows
        return np.concatenate([data.X_train, data.X_val]), np.concatenate([data.y_train, data.y_val])

    def network(self, rows: tuple[Any, Any] | None = None, **settings: Any) -> ReweightedClassifier:
        """Return a network trained in both stages, with the stages' own settings and these.

        Parameters
        ----------
        rows : pair of X and y, or None
            Rows made by a method, which may hold the validation rows too; None: the training rows, and a
            stage 1 that is trained once for all methods.
        **settings
            Of the estimator. Those of `STAGE_ONE_TOO` hold from stage 1 on; with ``restart_stage_two=False``
            both stages are one fit with one optimiser.
        """
        recipe = self.recipe
        with warnings.catch_warnings():
            if rows is not None:
                warnings.filterwarnings("ignore", r".* of X_val stand in X as well")
            X, y = self.training_rows if rows is None else rows
            if not recipe.stage_one or settings.get("restart_stage_two") is False:
                options = {**recipe.module_settings, **recipe.stage_one, **recipe.stage_two, **settings}
                return self._classifier(recipe.module, **options).fit(X, y)
            early = {name: value for name, value in settings.items() if name in STAGE_ONE_TOO}
            if settings.get("defer_sampling"):
                del early["sampling"]
            start = self._stage_one(X, y, early) if rows is not None else self._shared_start(early)
            options = {**recipe.stage_two, **settings}
            return self._classifier(start, warmup_epochs=0, **options).fit(X, y)

    def _shared_start(self, settings: Mapping[str, Any]) -> nn.Module:
        key = repr(sorted(settings.items()))
        if key not in self._starts:
            self._starts[key] = self._stage_one(*self.training_rows, settings)
        return self._starts[key]

    def _stage_one(self, X: Any, y: Any, settings: Mapping[str, Any]) -> nn.Module:
        recipe = self.recipe
        options = {**recipe.module_settings, **recipe.stage_one, **settings}
        return self._classifier(recipe.module, weighting="none", max_epochs=0, **options).fit(X, y).module_

    def _classifier(self, module: Any, **options: Any) -> ReweightedClassifier:
        data = self.data
        validation = None if data.X_val is None else (data.X_val, data.y_val)
        return ReweightedClassifier(module, validation_data=validation, random_state=self.seed, **options)

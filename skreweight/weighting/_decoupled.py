"""A stage 2 that keeps what stage 1 has learned of the rows, and draws them by class (Kang et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skreweight.weighting._none import NoWeighting
from skreweight.weighting._parameters import choice, hyperparameters


@hyperparameters
class Decoupled(NoWeighting):
    """Base of methods whose stage 2 minimises the plain mean loss over rows that are drawn by class.

    Parameters
    ----------
    sampling : {"balanced", "sqrt", "effective-number", "instance"}, default="balanced"
        How stage 2 draws its rows; ``"instance"``: each comes once an epoch.
    """

    sampling: str = choice("balanced", "sqrt", "effective-number", "instance")

    def plan(self, stages: Sequence[Any]) -> list[Any]:
        """Return the stages, this method's own as it changes them."""
        return [self.changed(stage) if stage.weighting is self else stage for stage in stages]

    def changed(self, stage: Any) -> Any:
        """Return the method's own stage with its way of drawing rows.

        Parameters
        ----------
        stage : skreweight._training.stage.Stage
            That of the method.
        """
        return replace(stage, sampler=None if self.sampling == "instance" else self.sampling)

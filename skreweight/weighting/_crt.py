"""Classifier re-training (Kang et al. 2020)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skreweight.weighting._decoupled import Decoupled
from skreweight.weighting._parameters import flag, hyperparameters


@hyperparameters
class ClassifierRetraining(Decoupled):
    """Keep what stage 1 has learned of the rows, and train a new last layer on balanced batches.

    Stage 2 begins with a new last layer and a new optimiser, draws as many rows of every class, and trains that layer
    alone with the plain mean loss: every w_i is 1/B. Everything before it stays as stage 1 left it, statistics of
    normalisation layers included (the authors' code lets these follow the balanced batches).

    With ``stage_two_trainable`` more of the network is trained. A ``class_weight`` would correct for the classes a
    second time; ``sampling`` concerns stage 1 alone.

    Parameters
    ----------
    sampling : {"balanced", "sqrt", "effective-number", "instance"}, default="balanced"
        How stage 2 draws its rows; ``"instance"``: each comes once an epoch.
    new_classifier : bool, default=True
        Whether the last layer begins anew, from draws of its ``reset_parameters``.

    References
    ----------
    Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis. Decoupling representation and classifier for long-tailed
    recognition. ICLR 2020.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("crt", new_classifier=False)
    ClassifierRetraining(new_classifier=False)
    """

    works_on_shares = True
    needs_classifier = True

    new_classifier: bool = flag(True)

    def changed(self, stage: Any) -> Any:
        """Return the stage with the last layer alone to train, from a new start."""
        return replace(
            super().changed(stage),
            trains=("classifier",) if stage.trains is None else stage.trains,
            resets_classifier=self.new_classifier,
            fresh_optimizer=True,
        )

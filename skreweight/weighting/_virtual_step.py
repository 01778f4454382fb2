"""The virtual steps a user may choose from, by name."""

from __future__ import annotations

from skreweight.core.virtual_step import VirtualStep, optimizer_step, sgd_step
from skreweight.weighting._base import Step

VIRTUAL_STEPS = ("sgd", "optimizer", "optimizer-early-epsilon")


def virtual_step(name: str, step: Step) -> VirtualStep:
    """Return the steps δ_i of the rows of a batch.

    Parameters
    ----------
    name : {"sgd", "optimizer", "optimizer-early-epsilon"}
        ``"sgd"``: δ_i = −lr·∇f_i. ``"optimizer"``: row i's whole step of the running optimiser.
        ``"optimizer-early-epsilon"``: the same with eps added to √v before Adam's bias correction.
    step : Step
    """
    assert step.gradients is not None
    if name == "sgd":
        return sgd_step(step.gradients, step.optimizer)
    return optimizer_step(step.gradients, step.optimizer, early_epsilon=name == "optimizer-early-epsilon")

"""Weightings: one file per method, one line each in the registry."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from skreweight._names import did_you_mean
from skreweight.weighting._absgd import ABSGD
from skreweight.weighting._base import NewState, Trained, Weighting
from skreweight.weighting._crt import ClassifierRetraining
from skreweight.weighting._eg import EG
from skreweight.weighting._hu import Hu
from skreweight.weighting._logit_adjustment import LogitAdjustment
from skreweight.weighting._lws import LearnableWeightScaling
from skreweight.weighting._meta import Meta
from skreweight.weighting._meta_weight_net import MetaWeightNet
from skreweight.weighting._none import NoWeighting
from skreweight.weighting._ours import Ours
from skreweight.weighting._parameters import choice, count, flag, hyperparameters, number
from skreweight.weighting._proportion import Proportion
from skreweight.weighting._ren import Ren
from skreweight.weighting._step import Step
from skreweight.weighting._tau_norm import TauNormalization
from skreweight.weighting._term import Term
from skreweight.weighting._top_loss import TopLoss
from skreweight.weighting._two_phase import TwoPhase

WEIGHTINGS: dict[str, type[Weighting]] = {
    "none": NoWeighting,
    "proportion": Proportion,
    "two-phase": TwoPhase,
    "ren": Ren,
    "hu": Hu,
    "ours": Ours,
    "absgd": ABSGD,
    "term": Term,
    "top-loss": TopLoss,
    "eg": EG,
    "meta": Meta,
    "meta-weight-net": MetaWeightNet,
    "crt": ClassifierRetraining,
    "lws": LearnableWeightScaling,
    "tau-norm": TauNormalization,
    "logit-adjustment": LogitAdjustment,
}


def get_weighting(weighting: str | type[Weighting] | Weighting, **parameters: Any) -> Weighting:
    """Return a new weighting object, checked and ready to `start`.

    Parameters
    ----------
    weighting : str, class or object
        A name of `WEIGHTINGS`, a subclass of `Weighting`, or an object of one, which is copied.
    **parameters
        Override the object's parameters.

    Raises
    ------
    ValueError
        For an unknown name, a parameter that this method has not, or a value that cannot be.
    TypeError
        For anything that is no weighting.

    Examples
    --------
    >>> get_weighting("hu", decay=5.0, floor=0.0)
    Hu(decay=5.0, floor=0.0)
    """
    if isinstance(weighting, str):
        if weighting not in WEIGHTINGS:
            raise ValueError(
                f"Unknown weighting, got {weighting!r}: choose one of {', '.join(map(repr, WEIGHTINGS))}."
            )
        chosen: Weighting = WEIGHTINGS[weighting]()
    elif isinstance(weighting, type) and issubclass(weighting, Weighting):
        chosen = weighting()
    elif isinstance(weighting, Weighting):
        chosen = clone(weighting)
    else:
        raise TypeError(
            "weighting must be a name, a subclass of skreweight.weighting.Weighting or an object of one, "
            f"got {weighting!r}."
        )
    for name in parameters:
        if name not in chosen.get_params():
            raise ValueError(_unknown_parameter(weighting, chosen, name))
    chosen.set_params(**parameters)
    chosen.check_parameters()
    return chosen


def _unknown_parameter(weighting: Any, chosen: Weighting, name: str) -> str:
    owners = [key for key, kind in WEIGHTINGS.items() if name in kind().get_params()]
    known = ", ".join(sorted(chosen.get_params())) or "none"
    label = repr(weighting) if isinstance(weighting, str) else type(chosen).__name__
    hint = (
        f" It belongs to {' and '.join(map(repr, owners))}: set it with that method only (in a grid: a list of dicts), "
        f"or unset it: set_params(weighting__{name}=None)."
        if owners
        else ""
    )
    meant = "" if owners else did_you_mean(name, chosen.get_params(), "weighting__")
    return f"weighting__{name} is set, but weighting {label} has no parameter {name!r}{meant} (it has: {known}).{hint}"


__all__ = [
    "ABSGD",
    "EG",
    "WEIGHTINGS",
    "ClassifierRetraining",
    "Hu",
    "LearnableWeightScaling",
    "LogitAdjustment",
    "Meta",
    "MetaWeightNet",
    "NewState",
    "NoWeighting",
    "Ours",
    "Proportion",
    "Ren",
    "Step",
    "TauNormalization",
    "Term",
    "TopLoss",
    "Trained",
    "TwoPhase",
    "Weighting",
    "choice",
    "count",
    "flag",
    "get_weighting",
    "hyperparameters",
    "number",
]

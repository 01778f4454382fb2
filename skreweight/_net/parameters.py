"""Parameters of the estimator: names, checks, and those of the weighting."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_parameter_constraints
from skorch import NeuralNetClassifier

from skreweight._parameters import did_you_mean
from skreweight._schedules import schedules_of
from skreweight.weighting import WEIGHTINGS, get_weighting

_CONSTRAINTS: dict[str, list[Any]] = {
    "warmup_epochs": [Interval(Integral, 0, None, closed="left")],
    "max_epochs": [Interval(Integral, 0, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left"), Options(Integral, {-1})],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "keep_best": [StrOptions({"epoch", "step"}), bool],
    "class_weight": [StrOptions({"balanced", "effective-number"}), dict, None],
    "defer_class_weight": ["boolean"],
    "train_on_validation": ["boolean"],
    "validation_batch_size": [Interval(Integral, 1, None, closed="left"), None],
    "restart_stage_two": ["boolean"],
    "on_nonfinite": [StrOptions({"raise", "skip"})],
    "diagnostics": ["boolean"],
    "cuda_graph": ["boolean"],
    "autocast": [StrOptions({"bfloat16"}), None],
    "callbacks": [list, StrOptions({"disable"}), None],
    "random_state": ["random_state"],
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
}


class Parameters(NeuralNetClassifier):
    """The estimator's parameters, as scikit-learn and skorch want them."""

    prefixes_: ClassVar[list[str]] = [*NeuralNetClassifier.prefixes_, "weighting"]

    @property
    def device(self) -> Any:
        """Device of the training; ``"auto"`` is answered with what it stands for here."""
        device = self.__dict__["device"]
        if isinstance(device, str) and device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return device

    @device.setter
    def device(self, value: Any) -> None:
        self.__dict__["device"] = value

    def _get_param_names(self) -> list[str]:
        return [name for name in super()._get_param_names() if not name.startswith("_")]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, those of the weighting as ``weighting__<name>``."""
        params: dict[str, Any] = super().get_params(deep=deep)
        params["device"] = self.__dict__["device"]
        if deep:
            try:
                chosen = get_weighting(self.weighting)
            except (ValueError, TypeError):
                return params  # fit says what is wrong with it
            defaults = {f"weighting__{k}": v for k, v in chosen.get_params().items()}
            params = {**defaults, **params, **self._weighting_overrides(prefixed=True)}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``weighting__<name>`` works before and after `fit`, and in grids.

        Raises
        ------
        ValueError
            For a name that is no parameter.
        """
        self._check_names(name for name in params if name not in self.__dict__)
        own = {k: v for k, v in params.items() if k == "weighting" or k.startswith("weighting__")}
        rest = {k: v for k, v in params.items() if k not in own}
        own_given = bool(own)
        if (
            "callbacks" in rest and not self.initialized_
        ):  # skorch would build them, and fail, before fit can say why
            self.callbacks = rest.pop("callbacks")
        if rest:
            self._set_skorch_params(rest)
        if "weighting" in own:
            self.weighting = own.pop("weighting")
        for name, value in own.items():
            self._check_weighting_parameter(name)
            setattr(self, name, value)
        if own_given and self.initialized_:
            self._renew_weighting()
        return self

    def _set_skorch_params(self, params: dict[str, Any]) -> None:
        """Set skorch's parameters, with what it leaves undone: instances, a new optimiser, other callbacks."""
        params = dict(params)
        if not self.initialized_:
            # skorch would take an instance for a component that is made in the wrong place.
            for name in {"module", "criterion"} & set(params):
                self.__dict__[name] = params.pop(name)
            super().set_params(**params)
            return
        optimizer_given = "optimizer" in params
        if optimizer_given:
            self.optimizer = params.pop("optimizer")
        changed = {name.split("__")[1] for name in params if name.startswith("callbacks__")}
        going_on = {} if "callbacks" in params else {**schedules_of(self), **self.progress_.schedules}
        super().set_params(**params)
        if optimizer_given:
            self._initialize_optimizer()
        if any(name.startswith("callbacks") for name in params):
            self.progress_.schedules = {k: v for k, v in going_on.items() if k not in changed}
            self._initialize_callbacks()

    def _check_weighting_parameter(self, name: str) -> None:
        key = name.removeprefix("weighting__")
        known = {k for kind in WEIGHTINGS.values() for k in kind().get_params()}
        if not isinstance(self.weighting, str):
            known |= set(get_weighting(self.weighting).get_params())
        if key not in known:
            raise ValueError(
                f"Invalid parameter {name!r}: no weighting has a parameter {key!r}"
                f"{did_you_mean(key, known, 'weighting__')} (there are: {', '.join(sorted(known))})."
            )

    def _check_names(self, names: Iterable[str]) -> None:
        """Raise a ValueError for a name that cannot be a parameter, whatever the components take."""
        prefixes = {*self.prefixes_, "module", "criterion", "optimizer"}
        known = set(inspect.signature(type(self).__init__).parameters) - {"self", "kwargs"}
        for name in names:
            prefix, _, rest = name.partition("__")
            # A subclass may bring components of its own, which skorch knows once they are built.
            if name in known or (
                rest and (prefix in prefixes or not type(self).__module__.startswith("skreweight."))
            ):
                continue
            component = next((p for p in prefixes if name.startswith(f"{p}_")), None)
            if component is not None and not rest:
                hint = f": did you mean {component}__{name.removeprefix(component).lstrip('_')}?"
            elif rest:
                hint = did_you_mean(prefix, prefixes).replace("?", f"__{rest}?")
            else:
                hint = did_you_mean(name, known)
            raise ValueError(f"Invalid parameter {name!r} for {type(self).__name__}{hint or '.'}")

    def _weighting_overrides(self, *, prefixed: bool = False) -> dict[str, Any]:
        found = {k: v for k, v in self.__dict__.items() if k.startswith("weighting__")}
        return found if prefixed else {k.removeprefix("weighting__"): v for k, v in found.items()}

    def _renew_weighting(self) -> None:
        """Take over changed parameters; the state stays if the method does."""
        chosen = get_weighting(self.weighting, **self._weighting_overrides())
        old = self.__dict__.get("weighting_")
        if type(chosen) is type(old) and hasattr(old, "state_"):
            chosen.state_ = old.state_
        self.weighting_ = chosen

    def _check_parameters(self) -> None:
        values = {name: getattr(self, name) for name in _CONSTRAINTS}
        validate_parameter_constraints(_CONSTRAINTS, values, type(self).__name__)
        if self.train_split is not None:
            raise ValueError(
                "train_split is not used here: give validation_data, which takes a ValidSplit too."
            )
        self._check_names(sorted(self._params_to_validate))
        torch.device(self.device)
        get_weighting(self.weighting, **self._weighting_overrides())

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return the parameters that differ from their defaults, as scikit-learn's estimators do."""
        return BaseEstimator.__repr__(self, N_CHAR_MAX)

    def get_metadata_routing(self) -> Any:
        """Return what metadata `fit` asks for (``sample_weight``, ``X_val``, ``y_val``)."""
        return self._get_metadata_request()

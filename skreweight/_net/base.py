"""A skorch classifier as scikit-learn wants it: names, labels, components."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_parameter_constraints
from skorch.callbacks import EpochTimer
from skorch.history import History

from skreweight._names import check_arguments, check_parameter_names
from skreweight._net.check import check_settings
from skreweight._net.component import ObjectComponent
from skreweight._net.criterion import per_example_criterion
from skreweight._net.log import TrainingLog
from skreweight._net.make import fused_where_it_can_be, made_module
from skreweight._net.storing import StoringNet
from skreweight._rows.prepare import Learned


class SkorchClassifier(StoringNet):
    """Base of the estimators: what skorch leaves undone for a classifier of scikit-learn.

    A subclass defines `components` that are no modules, the `constraints` of its parameters, and its training.
    """

    components: ClassVar[tuple[ObjectComponent, ...]] = ()
    constraints: ClassVar[dict[str, list[Any]]] = {
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), Options(Integral, {-1})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "callbacks": [list, StrOptions({"disable"}), None],
        "predict_nonlinearity": [StrOptions({"auto"}), callable, None],
        "warm_start": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(self, module: Any, **kwargs: Any) -> None:
        if "history" in kwargs:
            raise ValueError("history is no parameter here: load one with load_params(f_history=...).")
        super().__init__(module, **kwargs)

    # ---------------------------------------------------------------- parameters

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
        """Return the parameters, those of the components as ``weighting__<name>`` and the like.

        Parameters
        ----------
        deep : bool, default=True
            Whether the parameters of the components are among them.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        params["device"] = self.__dict__["device"]
        if deep:
            for component in self.components:
                params |= component.parameters(self.__dict__)
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``weighting__<name>`` works before and after `fit`, and in grids.

        ``None`` unsets a parameter that the chosen weighting does not have: that of one chosen before. Where
        anything is refused, nothing is changed.

        Parameters
        ----------
        **params
            New values by name.

        Raises
        ------
        ValueError
            For a name that is no parameter, and, once there are components, for a value that they do not take.
        """
        self._check_names(name for name in params if name not in self.__dict__)
        with self._unchanged_on_error():
            self._set_all(params)
        return self

    def _set_all(self, params: dict[str, Any]) -> None:
        rest = {k: v for k, v in params.items() if not any(c.owns(k) for c in self.components)}
        # skorch would build callbacks, and fail, before fit can say why.
        if "callbacks" in rest and not self.initialized_:
            self.callbacks = rest.pop("callbacks")
        if rest:
            self._set_skorch_params(rest)
        for component in self.components:
            own = {k: v for k, v in params.items() if component.owns(k)}
            if component.prefix in own:
                setattr(self, component.prefix, own[component.prefix])
            for name in (k for k in own if k != component.prefix):
                component.check_name(name, getattr(self, component.prefix))
                setattr(self, name, own[name])
            for name in component.not_taken(self.__dict__):
                if getattr(self, name) is None:
                    delattr(self, name)
                    self._params_to_validate.discard(name)
            if own and self.initialized_:
                self._renew(component)

    def _set_skorch_params(self, params: dict[str, Any]) -> None:
        """Set skorch's parameters, with what it leaves undone: instances, a new optimiser, other callbacks."""
        if not self.initialized_:
            # skorch would take an instance for a component that is made in the wrong place.
            for name in {"module", "criterion"} & set(params):
                self.__dict__[name] = params[name]
            super().set_params(**{k: v for k, v in params.items() if k not in ("module", "criterion")})
            return
        # Made anew whenever they are used; skorch looks for a component to renew, and finds none.
        for name in [k for k in params if k.startswith(("iterator_", "dataset"))]:
            setattr(self, name, params.pop(name))
            self._params_to_validate.add(name)
        if not params:
            return
        # With a new optimiser its arguments go to its making: skorch would write them into the old one's groups.
        late = [k for k in params if "optimizer" in params and (k == "lr" or k.split("__")[0] == "optimizer")]
        self.__dict__.update({name: params[name] for name in late})
        self._params_to_validate |= {name for name in late if "__" in name}
        super().set_params(**{k: v for k, v in params.items() if k not in late})
        if late:
            self._initialize_optimizer()
        if any(name.startswith("callbacks") for name in params):
            self._initialize_callbacks()

    def _make(self, component: ObjectComponent) -> None:
        setattr(self, f"{component.prefix}_", component.made(self.__dict__))

    def _renew(self, component: ObjectComponent) -> None:
        """Take over changed parameters of a component; what it has learned stays if its class does."""
        old = self.__dict__.get(f"{component.prefix}_")
        self._make(component)
        new = self.__dict__[f"{component.prefix}_"]
        if old is not None and type(new) is type(old) and hasattr(old, "state_"):
            new.state_ = old.state_

    def _check_names(self, names: Iterable[str]) -> None:
        """Raise a ValueError for a name that cannot be a parameter, whatever the components take."""
        # A subclass whose __init__ passes on **kwargs takes what its bases take.
        signatures = [
            inspect.signature(kind.__init__)
            for kind in type(self).__mro__
            if issubclass(kind, SkorchClassifier)
        ]
        known = {name for signature in signatures for name in signature.parameters} - {
            "self",
            "args",
            "kwargs",
        }
        prefixes = {*self.prefixes_, "module", "criterion", "optimizer"}
        # A subclass may bring components of its own, which skorch knows once they are built.
        foreign = not type(self).__module__.startswith("skreweight.")
        check_parameter_names(names, known, prefixes, type(self).__name__, any_prefix=foreign)

    def _check_parameters(self) -> None:
        values = {name: getattr(self, name) for name in self.constraints}
        validate_parameter_constraints(self.constraints, values, type(self).__name__)
        if self.train_split is not None:
            raise ValueError(
                "train_split is not used here: give validation_data, which takes a ValidSplit too."
            )
        self._check_names(sorted(self._params_to_validate))
        check_settings(self)
        for component in self.components:
            component.made(self.__dict__)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return the parameters that differ from their defaults, as scikit-learn's estimators do."""
        return BaseEstimator.__repr__(self, N_CHAR_MAX)

    def get_metadata_routing(self) -> Any:
        """Return what metadata `fit` asks for (``sample_weight``, ``X_val``, ``y_val``)."""
        return self._get_metadata_request()

    # ---------------------------------------------------------------- labels

    @property
    def classes_(self) -> NDArray[Any]:
        """The class labels, sorted; their codes while callbacks score in the middle of training."""
        labels = self.labels_
        return np.arange(len(labels)) if self._answers_in_codes else labels

    @property
    def labels_(self) -> NDArray[Any]:
        """The class labels, sorted."""
        if self.classes is not None:
            return np.asarray(self.classes)
        try:
            return self.__dict__["classes_inferred_"]
        except KeyError:
            raise NotFittedError(f"{type(self).__name__} has no classes_ before fit.") from None

    @contextmanager
    def _answering_in_codes(self) -> Iterator[None]:
        self._answers_in_codes = True
        try:
            yield
        finally:
            del self._answers_in_codes

    def __delattr__(self, name: str) -> None:
        if name == "_answers_in_codes":
            object.__delattr__(self, name)
        else:
            super().__delattr__(name)

    def _learn(self, learned: Learned) -> None:
        """Take over what was learned of X and y."""
        if self.classes is None:
            self.classes_inferred_ = learned.classes
        held = learned.validation_indices
        self.class_counts_ = learned.class_counts.copy()
        self.validation_indices_ = None if held is None else held.copy()
        self.__dict__.pop("n_features_in_", None)
        self.__dict__.pop("feature_names_in_", None)
        columns = {f"{name}_": value for name, value in vars(learned.columns).items() if value is not None}
        self.__dict__.update(columns)

    # ---------------------------------------------------------------- components

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [("epoch_timer", EpochTimer()), ("print_log", TrainingLog())]

    def initialize(self) -> Self:
        """Make all components anew; return self."""
        self._check_parameters()
        return self._initialize_components()

    def _initialize_components(self) -> Self:
        for component in self.components:
            self._make(component)
        super().initialize()
        return self

    def initialize_history(self) -> Self:
        """Begin a new history."""
        self.history_ = History()
        return self

    def initialize_module(self) -> Self:
        """Make the module, with the sizes that its class asks for."""
        sizes = {}
        if hasattr(self, "n_features_in_"):
            sizes["n_features"] = self.n_features_in_
        if self.classes is not None or "classes_inferred_" in self.__dict__:
            sizes["n_classes"] = len(self.labels_)
        self.module_ = made_module(self.module, self.get_params_for("module"), sizes)
        return self

    def initialize_criterion(self) -> Self:
        """Make the criterion, returning one loss per row."""
        counts = self.__dict__.get("class_counts_")
        self.criterion_ = per_example_criterion(self.criterion, self.get_params_for("criterion"), counts)
        return self

    def initialize_optimizer(self) -> Self:
        """Make the optimiser; fused where torch has a fused one and the user said nothing else."""
        args, kwargs = self.get_params_for_optimizer("optimizer", self.get_all_learnable_params())
        check_arguments("optimizer", self.optimizer, kwargs)
        fused = fused_where_it_can_be(self.optimizer, kwargs, self.module_)
        self.optimizer_ = self.optimizer(*args, **{**fused, **kwargs})
        return self

    def restart_optimizer(self) -> None:
        """Begin with a new optimiser."""
        with self._current_init_context("optimizer"):
            self.initialize_optimizer()

    def batch_options(self) -> dict[str, Any]:
        """Return the parameters ``iterator_train__*`` with the batch size."""
        return {"batch_size": self.batch_size, **self.get_params_for("iterator_train")}

"""The parts a net is made of: labels, module, criterion, optimiser, callbacks."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from skorch.callbacks import EpochTimer
from skorch.history import History
from torch import nn

from skreweight._criterion import per_example_criterion
from skreweight._log import TrainingLog
from skreweight._net.parameters import Parameters
from skreweight._parameters import check_arguments
from skreweight._progress import Progress
from skreweight._schedules import restart_schedules
from skreweight.modules import MLP
from skreweight.weighting import get_weighting


class Components(Parameters):
    """What `initialize` makes, and the labels it is made for."""

    # Whether predictions are class codes: callbacks score while labels are codes.
    _answers_in_codes = False

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

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [("epoch_timer", EpochTimer()), ("print_log", TrainingLog())]

    def initialize(self) -> Self:
        """Make module, criterion, optimiser, weighting and callbacks anew; return self."""
        self._check_parameters()
        self.progress_ = self._new_progress()
        return self._initialize_components()

    def _new_progress(self) -> Progress:
        return Progress(int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)))

    def _initialize_components(self) -> Self:
        self.weighting_ = get_weighting(self.weighting, **self._weighting_overrides())
        super().initialize()
        return self

    def initialize_history(self) -> Self:
        """Begin a new history."""
        self.history_ = History()
        return self

    def initialize_module(self) -> Self:
        """Make the module, with the sizes that its class asks for."""
        self.progress_.start_over()
        kwargs = self.get_params_for("module")
        module = MLP if self.module is None else self.module
        with self.progress_.generators(torch.device(self.device)):
            if isinstance(module, nn.Module) and not kwargs:
                self.module_ = copy.deepcopy(module)
            else:
                make = type(module) if isinstance(module, nn.Module) else module
                check_arguments("module", make, kwargs)
                self.module_ = make(**self._sizes_for(make, kwargs), **kwargs)
        return self

    def _sizes_for(self, make: Any, kwargs: dict[str, Any]) -> dict[str, int]:
        sizes = {}
        if hasattr(self, "n_features_in_"):
            sizes["n_features"] = self.n_features_in_
        if self.classes is not None or "classes_inferred_" in self.__dict__:
            sizes["n_classes"] = len(self.labels_)
        accepted = inspect.signature(make).parameters
        missing = [n for n in ("n_features", "n_classes") if n not in {**sizes, **kwargs}]
        if self.module is None and missing:
            raise ValueError(
                f"module=None cannot be built without {missing[0]}: set module__{missing[0]}, or call fit with an "
                "array, which tells it; X as a mapping needs a module of your own."
            )
        return {name: size for name, size in sizes.items() if name in accepted and name not in kwargs}

    def initialize_criterion(self) -> Self:
        """Make the criterion, returning one loss per row."""
        counts = self.__dict__.get("class_counts_")
        self.criterion_ = per_example_criterion(self.criterion, self.get_params_for("criterion"), counts)
        return self

    def initialize_optimizer(self, triggered_directly: bool | None = None) -> Self:
        """Make the optimiser; fused where torch has a fused one and the user said nothing else."""
        args, kwargs = self.get_params_for_optimizer("optimizer", self.get_all_learnable_params())
        check_arguments("optimizer", self.optimizer, kwargs)
        self.optimizer_ = self.optimizer(*args, **{**self._fused(kwargs), **kwargs})
        return self

    def _fused(self, kwargs: dict[str, Any]) -> dict[str, bool]:
        kinds = {torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD}
        chosen = {"foreach", "fused", "differentiable", "capturable"} & set(kwargs)
        parameters = list(self.module_.parameters())
        plain = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
        if self.optimizer not in kinds or chosen or not plain:
            return {}
        on_gpu = any(p.is_cuda for p in parameters)
        counts_steps = self.optimizer is not torch.optim.SGD
        # A captured step has to count on the device.
        return (
            {"fused": True, "capturable": True}
            if self.cuda_graph and on_gpu and counts_steps
            else {"fused": True}
        )

    def restart_optimizer(self) -> None:
        """Begin with a new optimiser and restarted learning-rate schedules."""
        with self._current_init_context("optimizer"):
            self.initialize_optimizer()
        restart_schedules(self)

    def batch_options(self) -> dict[str, Any]:
        """Return the parameters ``iterator_train__*`` with the batch size."""
        return {"batch_size": self.batch_size, **self.get_params_for("iterator_train")}

    def _floating_dtype(self) -> torch.dtype:
        floating = (p.dtype for p in self.module_.parameters() if p.is_floating_point())
        return next(floating, torch.float32)

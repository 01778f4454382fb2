"""The estimator: labels, checks and columns in; labels and probabilities out."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochTimer
from skorch.dataset import Dataset as SkorchDataset
from skorch.history import History
from skorch.utils import _infer_predict_nonlinearity, to_tensor
from torch import Tensor, nn
from torch.utils.data import DataLoader

from skreweight import validation
from skreweight._criterion import per_example_criterion
from skreweight._guard import FiniteGuard, NonFiniteError
from skreweight._inputs import (
    cast_like,
    encode,
    is_dataset,
    labels_of,
    learn_columns_of_dataset,
    n_rows_of,
    rows_of,
    stack_items,
    validation_rows_of,
)
from skreweight._log import TrainingLog
from skreweight._parameters import check_arguments, did_you_mean
from skreweight._progress import Progress
from skreweight._resume import ResumeState, learn
from skreweight._rows import FitRows, Labelled, cast_by_batch, place
from skreweight._schedules import restart_schedules, schedules_going_on, schedules_of
from skreweight._stages import Stages
from skreweight._training import Trainer
from skreweight.batches import TensorBatches
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.validation_loss import ValidationLoss
from skreweight.losses import effective_number_weights
from skreweight.modules import MLP
from skreweight.validation import shown
from skreweight.weighting import WEIGHTINGS, Weighting, get_weighting

#: Rows that go through the network at once in prediction; a multiple of the training batch where that is larger.
PREDICTION_ROWS = 1024

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


class ReweightedClassifier(NeuralNetClassifier):
    """A neural network that learns, or is told, how much each training row weighs.

    A scikit-learn classifier on top of skorch. Training runs in two stages: ``warmup_epochs`` of the plain loss
    on the training rows, then ``max_epochs`` with the method named by ``weighting``.

    Parameters
    ----------
    module : torch.nn.Module class or instance, or None, default=None
        The network; its output (the first, if it returns a tuple) goes to the criterion. Arguments of a class
        are set as ``module__<name>``. Those called ``n_features`` and ``n_classes`` are filled in from the
        data unless you set them. None builds `skreweight.modules.MLP`. An instance is copied, never changed.
    weighting : str, class or object, default="ours"
        ``"none"``, ``"proportion"``, ``"two-phase"``, ``"ren"``, ``"hu"``, ``"ours"`` or ``"absgd"``, or a
        `skreweight.weighting.Weighting`. Its parameters are set as ``weighting__<name>``; an object of yours is
        copied, never changed.
    validation_data : None, int, float, splitter or pair, default=None
        The balanced validation rows. None: where the method needs them, the same number from every class is
        held out of the training rows: 10, or a fifth of the rarest class where that is less, at least 1. An
        int: rows per class. A float in (0, 1): a fraction of the rarest class. A scikit-learn splitter or
        skorch ``ValidSplit``: its first split. A pair ``(X_val, y_val)``, already preprocessed like X. What is
        passed to `fit` wins.
    warmup_epochs : int, default=15
        Epochs of stage 1.
    max_epochs : int, default=10
        Epochs of stage 2.
    batch_size : int, default=128
        −1 puts all rows into one batch.
    lr : float, default=1e-2
        Learning rate.
    optimizer : torch.optim class, default=torch.optim.Adam
        Arguments as ``optimizer__<name>``. The fused implementation is used where torch has one.
    criterion : class or instance, default=torch.nn.CrossEntropyLoss
        A criterion that can return one loss per row (``reduction="none"``), as torch's and
        `skreweight.losses` do. Arguments as ``criterion__<name>``; ``class_counts`` is filled in from the
        training rows.
    class_weight : None, "balanced", "effective-number" or dict, default=None
        Multiplies each row's loss by the weight of its class before the method sees it. ``"balanced"``:
        n/(C·n_c) as in scikit-learn. ``"effective-number"``: (1 − β)/(1 − β^n_c), β = 0.9999, mean 1. Dict:
        weight by label, 1 for labels left out.
    defer_class_weight : bool, default=False
        Whether class weights set in only with stage 2 (DRW).
    train_on_validation : bool, default=False
        Whether the validation rows are training rows as well: the control for methods that see them.
    validation_batch_size : int or None, default=None
        How many validation rows, drawn afresh at random, stand for all in each step; None: all.
    keep_best : {"epoch", "step", False}, default="epoch"
        Restore the parameters of stage 2 with the best validation accuracy, ties broken by lower validation
        loss, looked at after each epoch or step. Without validation rows nothing is restored.
    restart_stage_two : bool, default=False
        Begin stage 2 with a new optimiser (no momentum, no averages) and restarted learning-rate schedules.
    on_nonfinite : {"raise", "skip"}, default="raise"
        What happens when a loss or gradient is NaN or infinite: stop with an error at the end of the epoch,
        the parameters of the last good step kept, or skip such batches and warn.
    diagnostics : bool, default=False
        Add to the history, per epoch of stage 2: L_val before and after the constraint steps and their sizes,
        the effective number of rows (Σw)²/Σw² of each class, the share of stored weights at their floor.
    autocast : {"bfloat16"} or None, default=None
        Mixed precision of the forward pass for the methods that need no products of gradients, and stage 1.
    cuda_graph : bool, default=False
        Capture the training step in a CUDA graph, which saves most of the launch time of small networks. Nothing
        changes on the CPU, with `diagnostics`, with callbacks that listen to gradients, or where a step cannot
        be captured.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    random_state : int, RandomState instance or None, default=None
        Two fits with the same int are equal bit for bit on the CPU. The generators of torch are left as they
        were.
    verbose : int, default=0
        1 prints a line per epoch.
    callbacks : list of skorch callbacks, "disable" or None, default=None
    warm_start : bool, default=False
        Whether `fit` goes on from the present parameters.
    classes : array-like or None, default=None
        All labels, sorted, where y may lack some; None: those of y.
    iterator_train : None or torch.utils.data.DataLoader, default=None
        None cuts batches from whole tensors. ``iterator_train__shuffle`` (default True),
        ``iterator_train__drop_last`` and ``iterator_train__batch_sampler`` serve both, everything else is the
        loader's.
    predict_nonlinearity, iterator_valid, dataset, compile, use_caching, torch_load_kwargs
        As in skorch; the loader ``iterator_valid`` serves predictions for Datasets.
    train_split : None
        Not used: see ``validation_data``.
    **kwargs
        Parameters of the components: ``module__*``, ``optimizer__*``, ``criterion__*``, ``weighting__*``,
        ``iterator_train__*``, ``callbacks__*``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where X had string column names.
    example_weights_ : ndarray of shape (n_rows,)
        One figure per row of X as given to `fit`; NaN for rows held out. The stored weights of a method that
        stores them, otherwise w_i·B as the last epoch used it (1: counts as in the plain mean loss).
    validation_indices_ : ndarray of shape (m,) or None
        The rows of X held out for validation, or None where they came from elsewhere.
    class_counts_ : ndarray of shape (n_classes,)
        (Weighted) number of training rows per class.
    history_ : skorch.history.History
        One entry per epoch: ``stage``, ``train_loss``, ``valid_loss``, ``valid_acc``, ``dur``.
    module_, criterion_, optimizer_, weighting_
        The trained components.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skreweight import ReweightedClassifier
    >>> X, y = make_classification(500, weights=[0.95], random_state=0)
    >>> clf = ReweightedClassifier(weighting="ours", warmup_epochs=2, max_epochs=2, random_state=0).fit(X, y)
    >>> clf.predict_proba(X).shape
    (500, 2)
    """

    prefixes_: ClassVar[list[str]] = [*NeuralNetClassifier.prefixes_, "weighting"]
    cuda_dependent_attributes_: ClassVar[list[str]] = ["weighting_", "progress_"]

    # Whether predictions are class codes: callbacks score while labels are codes.
    _answers_in_codes = False

    def __init__(
        self,
        module: Any = None,
        *,
        weighting: str | type[Weighting] | Weighting = "ours",
        validation_data: Any = None,
        warmup_epochs: int = 15,
        max_epochs: int = 10,
        batch_size: int = 128,
        lr: float = 1e-2,
        optimizer: Any = torch.optim.Adam,
        criterion: Any = nn.CrossEntropyLoss,
        class_weight: Any = None,
        defer_class_weight: bool = False,
        train_on_validation: bool = False,
        validation_batch_size: int | None = None,
        keep_best: str | bool = "epoch",
        restart_stage_two: bool = False,
        on_nonfinite: str = "raise",
        diagnostics: bool = False,
        autocast: str | None = None,
        cuda_graph: bool = False,
        device: Any = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
        warm_start: bool = False,
        classes: Any = None,
        predict_nonlinearity: Any = "auto",
        iterator_train: Any = None,
        iterator_valid: Any = DataLoader,
        dataset: Any = SkorchDataset,
        train_split: Any = None,
        compile: bool = False,
        use_caching: Any = "auto",
        torch_load_kwargs: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            batch_size=batch_size,
            device=device,
            verbose=verbose,
            callbacks=callbacks,
            warm_start=warm_start,
            classes=classes,
            predict_nonlinearity=predict_nonlinearity,
            iterator_train=iterator_train,
            iterator_valid=iterator_valid,
            dataset=dataset,
            train_split=train_split,
            compile=compile,
            use_caching=use_caching,
            torch_load_kwargs=torch_load_kwargs,
            **kwargs,
        )
        self.weighting = weighting
        self.validation_data = validation_data
        self.warmup_epochs = warmup_epochs
        self.class_weight = class_weight
        self.defer_class_weight = defer_class_weight
        self.train_on_validation = train_on_validation
        self.validation_batch_size = validation_batch_size
        self.keep_best = keep_best
        self.restart_stage_two = restart_stage_two
        self.on_nonfinite = on_nonfinite
        self.diagnostics = diagnostics
        self.autocast = autocast
        self.cuda_graph = cuda_graph
        self.random_state = random_state

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

    def set_params(self, **params: Any) -> ReweightedClassifier:
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
            if name in known or (rest and (prefix in prefixes or type(self) is not ReweightedClassifier)):
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

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [("epoch_timer", EpochTimer()), ("print_log", TrainingLog())]

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

    # ---------------------------------------------------------------- components

    def initialize(self) -> ReweightedClassifier:
        """Make module, criterion, optimiser, weighting and callbacks anew; return self."""
        self._check_parameters()
        self.progress_ = self._new_progress()
        return self._initialize_components()

    def _new_progress(self) -> Progress:
        return Progress(int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)))

    def _initialize_components(self) -> ReweightedClassifier:
        self.weighting_ = get_weighting(self.weighting, **self._weighting_overrides())
        super().initialize()
        return self

    def initialize_history(self) -> ReweightedClassifier:
        """Begin a new history."""
        self.history_ = History()
        return self

    def initialize_module(self) -> ReweightedClassifier:
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

    def initialize_criterion(self) -> ReweightedClassifier:
        """Make the criterion, returning one loss per row."""
        counts = self.__dict__.get("class_counts_")
        self.criterion_ = per_example_criterion(self.criterion, self.get_params_for("criterion"), counts)
        return self

    def initialize_optimizer(self, triggered_directly: bool | None = None) -> ReweightedClassifier:
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

    def _get_module(self, name: str, msg: str) -> Any:
        if name == "weighting_" and self.initialized_:
            return ResumeState(self)
        return super()._get_module(name, msg)

    # ---------------------------------------------------------------- fit

    def fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> ReweightedClassifier:
        """Train both stages from the start (from where training stands with ``warm_start=True``).

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset
            Images and the like may have more dimensions where `module` is given.
        y : array-like of shape (n_rows,)
            Labels of any dtype. May be None for a Dataset whose items are ``(x, y)`` pairs.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            How many times each row counts; a row of weight 0 is left out. Multiplies whatever weight the method
            gives a row.
        X_val, y_val : array-like of shape (m, n_features) and (m,), or None
            Balanced validation rows, preprocessed like X; they win over ``validation_data``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For input that cannot be trained on; the estimator is then as it was before. For a loss that is not
            finite in the middle of training; the parameters of the last good step are then kept.
        """
        with self._unchanged_on_error():
            self._check_parameters()
            cold = not self.warm_start or not self.initialized_
            given, given_validation = self._labelled(X, y, sample_weight, X_val, y_val, reset=cold)
            if cold:
                self.progress_ = self._new_progress()
            held = self._learn_split(given, given_validation)
            if cold:
                self._initialize_components()
            rows = self._placed(given, given_validation, held)
            if cold:
                self._train(rows, X, y)
        if not cold:
            self._train(rows, X, y)
        return self

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        classes: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
    ) -> ReweightedClassifier:
        """Go on training from where it stands.

        What is left of both stages is trained (after Ctrl-C, early stopping or `load_params` with
        ``f_weighting``, exactly where it stopped; an epoch that was cut short begins again); ``max_epochs``
        more of stage 2 when nothing is, with a new search for the best of them. The first call begins like
        `fit`. Stored weights stay with their rows if X has as many rows as before; otherwise they begin anew.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val
            As in `fit`.
        classes : array-like of shape (n_classes,) or None, default=None
            All labels that will ever come, for the first call; None: those of y.

        Returns
        -------
        self
        """
        with self._unchanged_on_error():
            self._check_parameters()
            first = not self.initialized_
            fresh = first or not hasattr(self, "n_features_in_")
            known = "classes_inferred_" in self.__dict__
            given, given_validation = self._labelled(
                X, y, sample_weight, X_val, y_val, reset=fresh, classes=self.labels_ if known else classes
            )
            if first:
                self.progress_ = self._new_progress()
            held = self._learn_split(given, given_validation, every_class=False)
            if first:
                self._initialize_components()
            rows = self._placed(given, given_validation, held)
            if first:
                self._train(rows, X, y)
        if not first:
            self._train(rows, X, y)
        return self

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Undo what was learned if the block fails, unless new components were trained for an epoch by then."""
        before = dict(self.__dict__)
        try:
            yield
        except NonFiniteError:
            raise
        except BaseException:
            progress = self.__dict__.get("progress_")
            if progress is before.get("progress_") or progress is None or progress.epochs_done == 0:
                self.__dict__.clear()
                self.__dict__.update(before)
            raise

    def _labelled(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, *, reset: bool, classes: Any = None
    ) -> tuple[Labelled, Labelled | None]:
        """What the user passed, checked; learns the columns and, where `reset`, the classes."""
        if is_dataset(X):
            features = X
            if reset:
                learn_columns_of_dataset(self, X)
        else:
            features = rows_of(self, X, reset=reset, allow_nd=self.module is not None)
        labels = labels_of(X, y)
        n_rows = n_rows_of(features)
        if len(labels) != n_rows:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: [{n_rows}, {len(labels)}]"
            )
        if reset and self.classes is None:
            found = np.unique(labels if classes is None else classes)
            if len(found) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs at least two classes, the data has one class: {shown(found[0])}."
                )
            self.classes_inferred_ = found
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
        given = Labelled(features, encode(labels, self.labels_), weights)
        return given, self._given_validation(features, X_val, y_val)

    def _given_validation(self, features: Any, X_val: Any, y_val: Any) -> Labelled | None:
        """Validation rows that are not carved from X, if the user gave any."""
        if (X_val is None) != (y_val is None):
            lacking, there = ("X_val", "y_val") if X_val is None else ("y_val", "X_val")
            raise ValueError(f"{there} was given without {lacking}: pass both, or neither.")
        data = self.validation_data
        if X_val is None and isinstance(data, tuple | list):
            if len(data) != 2:
                raise ValueError(
                    f"validation_data as a pair must be (X_val, y_val), got {len(data)} entries."
                )
            X_val, y_val = data
        if X_val is None:
            return None
        labels = labels_of(X_val, y_val)
        if is_dataset(X_val):
            x_val = stack_items(X_val, np.arange(len(labels)))
        else:
            x_val = validation_rows_of(self, X_val, allow_nd=self.module is not None)
        codes = encode(labels, self.labels_, "y_val")
        if n_rows_of(x_val) != len(codes):
            raise ValueError(f"X_val has {n_rows_of(x_val)} rows, y_val {len(codes)}: they must agree.")
        validation.check_given_codes(codes, self.labels_)
        if (
            isinstance(features, Tensor)
            and isinstance(x_val, Tensor)
            and features.dim() == 2
            and features.dtype in (torch.float32, torch.float64)
            and not features.is_cuda
        ):
            validation.warn_of_traps(features.numpy(), x_val.cpu().numpy())
        return Labelled(x_val, codes)

    def _learn_split(
        self, given: Labelled, given_validation: Labelled | None, *, every_class: bool = True
    ) -> NDArray[np.int64]:
        """Carve the validation rows where any are needed; learn ``validation_indices_`` and ``class_counts_``."""
        chosen = get_weighting(self.weighting, **self._weighting_overrides())
        held = np.empty(0, dtype=np.int64)
        if given_validation is None and (chosen.needs_validation or self.validation_data is not None):
            generator = np.random.RandomState(self.progress_.seed)
            held = validation.carve(
                self.validation_data, given.codes, self.labels_, given.candidates, generator
            )
        self.validation_indices_ = held if len(held) else None
        train = given.candidates
        if len(held) and not self.train_on_validation:
            train = np.setdiff1d(train, held, assume_unique=True)
        counts = given.class_counts(train, len(self.labels_))
        if given_validation is not None and self.train_on_validation:
            counts = counts + given_validation.class_counts(None, len(self.labels_))
        if every_class and given_validation is None and (counts == 0).any() and self.classes is None:
            label = self.labels_[int(np.argmin(counts))]
            raise ValueError(
                f"Class {shown(label)} has no row of positive sample_weight to train on: leave its rows out, or "
                "name all classes in the parameter classes."
            )
        self.class_counts_ = counts
        return held

    def _placed(self, given: Labelled, given_validation: Labelled | None, held: NDArray[np.int64]) -> FitRows:
        return place(
            given,
            held,
            given_validation,
            train_on_validation=self.train_on_validation,
            dtype=self._floating_dtype(),
            device=torch.device(self.device),
        )

    def _floating_dtype(self) -> torch.dtype:
        floating = (p.dtype for p in self.module_.parameters() if p.is_floating_point())
        return next(floating, torch.float32)

    def _train(self, rows: FitRows, X: Any, y: Any) -> None:
        device, dtype = rows.device, self._floating_dtype()
        class_weight = (
            self._class_weight_vector().to(device, dtype) if self.class_weight is not None else None
        )
        plain_loss = ExampleLoss(self.criterion_)
        weighted_loss = ExampleLoss(self.criterion_, class_weight)
        stage_one_loss = plain_loss if self.defer_class_weight else weighted_loss
        self._start_weighting(rows, dtype)
        validation_loss = self._validation_loss(rows, plain_loss)
        trainer = Trainer(
            self.module_,
            self.optimizer_,
            weighted_loss,
            validation=validation_loss,
            multiplicity=rows.multiplicity,
            guard=FiniteGuard(self.module_, self.optimizer_, self.on_nonfinite),
            autocast=None if self.autocast is None else torch.bfloat16,
            cuda_graph=self.cuda_graph,
        )
        progress = self.progress_
        datasets = self._datasets_for_callbacks(rows)
        with self._answering_in_codes():
            with schedules_going_on(self):
                self.notify("on_train_begin", X=X, y=y)  # LoadInitState may load a checkpoint here
            n_epochs = progress.epochs_to_go(self.warmup_epochs, self.max_epochs)
            progress.go_on(self.module_)
            stages = Stages(self, rows, trainer, (stage_one_loss, weighted_loss), plain_loss)
            try:
                with progress.generators(device):
                    stages.run(n_epochs, datasets)
            except KeyboardInterrupt:
                if self.history_ and "stage" not in self.history_[-1]:
                    del self.history_[-1]  # the epoch was not finished: it begins again with partial_fit
            except NonFiniteError as error:
                error.args = (self._explained(error, rows),)
                raise
            finally:
                trainer.close()
                self._learn_weights(rows, stages.last_weights)
            if self.keep_best:
                progress.settle(self.module_)
            self.notify("on_train_end", X=X, y=y)

    def _start_weighting(self, rows: FitRows, dtype: torch.dtype) -> None:
        """Allocate the weighting's state, unless it has one for as many rows."""
        weighting, n_rows = self.weighting_, len(rows.targets)
        stored = weighting.stored_weights if hasattr(weighting, "state_") else None
        if not hasattr(weighting, "state_") or (stored is not None and len(stored) != n_rows):
            counts = torch.as_tensor(self.class_counts_, dtype=dtype, device=rows.device)
            weighting.start(n_rows, counts)
        weighting.load_state_dict({k: v.to(rows.device) for k, v in weighting.state_dict().items()})

    def _validation_loss(self, rows: FitRows, loss: ExampleLoss) -> ValidationLoss | None:
        if rows.x_val is None or rows.val_targets is None:
            return None
        penalty = {k: v for k, v in self.weighting_.get_params().items() if k in ("lp_norm", "lp_coef")}
        return ValidationLoss(
            Model(self.module_),
            loss,
            rows.x_val,
            rows.val_targets,
            batch_size=self.validation_batch_size,
            **penalty,
        )

    def _class_weight_vector(self) -> Tensor:
        """C by class code."""
        counts, labels = self.class_counts_, self.labels_
        if self.class_weight == "balanced":
            present = counts > 0
            share = np.divide(counts.sum(), counts, out=np.zeros_like(counts), where=present)
            return torch.from_numpy(share / np.count_nonzero(present))
        if self.class_weight == "effective-number":
            return effective_number_weights(counts)
        unknown = [label for label in self.class_weight if label not in labels]
        if unknown:
            raise ValueError(
                f"class_weight names {unknown[0]!r}, which is none of the classes {shown(labels)}."
            )
        by_label = {label: float(w) for label, w in self.class_weight.items()}
        return torch.tensor([by_label.get(label, 1.0) for label in labels.tolist()], dtype=torch.float64)

    def _datasets_for_callbacks(self, rows: FitRows) -> dict[str, Any]:
        if is_dataset(rows.features):
            train: Any = rows.features
        else:
            train = SkorchDataset(rows.features, rows.targets)
        if rows.train is not None:
            train = torch.utils.data.Subset(train, rows.train.cpu().numpy())  # type: ignore[arg-type]
        valid = None if rows.x_val is None else SkorchDataset(rows.x_val, rows.val_targets)
        return {"dataset_train": train, "dataset_valid": valid}

    def _learn_weights(self, rows: FitRows, last_weights: Tensor | None) -> None:
        stored = self.weighting_.stored_weights
        weights = stored if stored is not None else last_weights
        if weights is None:  # stage 2 did not touch the training rows (two-phase), or never came
            on_validation = self.weighting_.stage_two_rows == "validation"
            plain = torch.ones(len(rows.targets)) if rows.multiplicity is None else rows.multiplicity
            weights = plain * 0.0 if on_validation else plain
        figures = weights.detach().cpu().double().numpy().copy()
        if rows.train is not None:
            left_out = np.ones(len(figures), dtype=bool)
            left_out[rows.train.cpu().numpy()] = False
            figures[left_out] = np.nan
        self.example_weights_ = figures[: rows.n_given]

    def _explained(self, error: NonFiniteError, rows: FitRows) -> str:
        largest = float(rows.features.abs().max()) if isinstance(rows.features, Tensor) else 0.0
        cause = (
            f"features reach {largest:.3g}: scale them (StandardScaler, QuantileTransformer) before the network"
            if largest > 1e3
            else f"the learning rate lr={self.lr} is too large: lower it, or use skorch's GradientNormClipping"
        )
        return (
            f"Training stopped in epoch {len(self.history_)}, batch {error.batch}: the loss or its gradient is not "
            f"finite. Likely cause: {cause}. The parameters of the last good step are kept; on_nonfinite='skip' "
            "would leave such batches out."
        )

    # ---------------------------------------------------------------- prediction

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self.initialized_)

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """Yield the module's outputs batch by batch, as skorch does; rows in memory need no DataLoader."""
        if is_dataset(X) or training:
            yield from super().forward_iter(X, training=training, device=device)
            return
        x = rows_of(self, X, reset=False, allow_nd=self.module is not None)
        dtype = self._floating_dtype()
        by_batch = cast_by_batch(x, dtype)
        if not by_batch:
            x = cast_like(x, dtype)
        n_rows = n_rows_of(x)
        dummy = torch.zeros(n_rows, dtype=torch.int64, device=self.device)
        size = max(PREDICTION_ROWS, self.get_params_for("iterator_valid").get("batch_size", self.batch_size))
        self._set_training(False)
        options = {"batch_size": size, "shuffle": False, "dtype": dtype if by_batch else None}
        for batch in TensorBatches(x, dummy, None, torch.device(self.device), **options):
            with torch.no_grad():
                outputs = self.infer(batch.x)
            yield tuple(o.to(device) for o in outputs) if isinstance(outputs, tuple) else outputs.to(device)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the module's outputs for one batch, cast to the dtype of its parameters."""
        return super().infer(
            cast_like(to_tensor(x, device=self.device), self._floating_dtype()), **fit_params
        )

    def _outputs(self, X: Any) -> Tensor:
        check_is_fitted(self)
        parts = [out[0] if isinstance(out, tuple | list) else out for out in self.forward_iter(X)]
        return torch.cat(parts)

    def _probabilities(self, outputs: Tensor) -> Tensor:
        """Class probabilities, as the criterion understands the module's outputs."""
        criterion = getattr(self.criterion_, "_orig_mod", self.criterion_)
        if self.predict_nonlinearity != "auto":
            return self._get_predict_nonlinearity()(outputs)
        if callable(probabilities := getattr(criterion, "probabilities", None)):
            return probabilities(outputs)
        if isinstance(criterion, nn.NLLLoss):
            return outputs
        if _has_one_logit(outputs):
            return _infer_predict_nonlinearity(self)(outputs.reshape(-1))
        return torch.softmax(outputs, dim=1)

    def codes_of(self, outputs: Tensor) -> Tensor:
        """Return the predicted class codes of outputs, shape (B,)."""
        if _has_one_logit(outputs):
            return (outputs.reshape(-1) > 0).long()
        return outputs.argmax(dim=1)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Columns in the order of ``classes_``.
        """
        return self._probabilities(self._outputs(X)).numpy()

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        codes = self.codes_of(self._outputs(X)).numpy()
        return self.classes_[codes]

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return the confidence in each class, as scikit-learn's linear classifiers do.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset

        Returns
        -------
        ndarray of shape (n_rows,) for two classes, else (n_rows, n_classes)
            Two classes: the log-odds of the second, above 0 where it is predicted. More: the logits.
        """
        outputs = self._outputs(X)
        if _has_one_logit(outputs):
            return outputs.reshape(-1).numpy()
        if isinstance(getattr(self.criterion_, "_orig_mod", self.criterion_), nn.NLLLoss):
            outputs = outputs.log()
        return (outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs).numpy()

    def history_frame(self) -> pd.DataFrame:
        """Return the training history as a DataFrame, one row per epoch.

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from skreweight import ReweightedClassifier
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> clf = ReweightedClassifier(weighting="absgd", warmup_epochs=1, max_epochs=1).fit(X / X.max(0), y)
        >>> clf.history_frame()["stage"].tolist()
        [1, 2]
        """
        check_is_fitted(self)
        rows = [{k: v for k, v in row.items() if k != "batches"} for row in self.history_]
        return pd.DataFrame(rows).set_index("epoch") if rows else pd.DataFrame()

    # ---------------------------------------------------------------- persistence

    def load_params(
        self,
        f_params: Any = None,
        f_optimizer: Any = None,
        f_criterion: Any = None,
        f_history: Any = None,
        checkpoint: Any = None,
        use_safetensors: bool = False,
        *,
        f_weighting: Any = None,
        **kwargs: Any,
    ) -> None:
        """Load what `save_params` (or a ``Checkpoint``) stored; no code in the files is run.

        An estimator that is not initialised yet is, where ``f_weighting`` says how many columns and classes
        there are.

        Parameters
        ----------
        f_params, f_optimizer, f_criterion, f_history : path, file or None, default=None
            As in skorch.
        checkpoint : skorch.callbacks.Checkpoint or None, default=None
            Load what this callback saved.
        use_safetensors : bool, default=False
        f_weighting : path, file or None, default=None
            State of the weighting, of both stages, and what was learned of X and y. With ``f_params`` and
            ``f_optimizer`` it is all that `partial_fit` needs to go on exactly where training stood.
        **kwargs
            ``f_<name>`` of further components of a subclass.
        """
        if f_weighting is not None:
            kwargs["f_weighting"] = f_weighting
        if not self.initialized_:
            self._initialize_from(checkpoint, f_weighting)
        requested = self.__dict__["device"]
        super().load_params(
            f_params, f_optimizer, f_criterion, f_history, checkpoint, use_safetensors, **kwargs
        )
        if requested == "auto":
            self.device = "auto"

    def _initialize_from(self, checkpoint: Any, file: Any) -> None:
        """Initialise with the sizes that a file of ``f_weighting`` names."""
        if file is None and getattr(checkpoint, "f_weighting", None) is not None:
            in_history = checkpoint.f_history is not None
            self.history_ = History.from_file(checkpoint.f_history_) if in_history else History()
            file = checkpoint.get_formatted_files(self)["f_weighting"]
        if file is None:
            return
        state = torch.load(file, map_location="cpu", weights_only=True)
        if hasattr(file, "seek"):
            file.seek(0)
        learn(self, state)
        self.initialize()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling; tensors on a GPU can be loaded without one."""
        state = super().__getstate__()
        state.pop("_answers_in_codes", None)  # a callback may pickle in the middle of training
        state["requested_device"] = state["device"]
        state["device"] = self.device
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a pickled state, on the CPU where the GPU it was trained on is missing."""
        requested = state.pop("requested_device")
        if requested == "auto" and not torch.cuda.is_available():
            state["device"] = "cpu"
        super().__setstate__(state)
        if requested == "auto":
            self.device = "auto"

    def get_metadata_routing(self) -> Any:
        """Return what metadata `fit` asks for (``sample_weight``, ``X_val``, ``y_val``)."""
        return self._get_metadata_request()


def _has_one_logit(outputs: Tensor) -> bool:
    return outputs.dim() == 1 or outputs.shape[1] == 1

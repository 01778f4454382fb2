"""The estimator: its parameters, and how training is put together from them."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from skorch.dataset import Dataset as SkorchDataset
from torch import Tensor, nn
from torch.utils.data import DataLoader

from skreweight._checks import CONSTRAINTS
from skreweight._composition import features_of, train
from skreweight._net import predict
from skreweight._net.base import SkorchClassifier
from skreweight._net.check import check_epochs, check_same_classes, refuse_arguments
from skreweight._net.component import ObjectComponent
from skreweight._net.schedules import schedules_of
from skreweight._training.state import TrainingState
from skreweight.weighting import WEIGHTINGS, Weighting, get_weighting


class ReweightedClassifier(SkorchClassifier):
    """A neural network that learns, or is told, how much each training row weighs.

    A scikit-learn classifier on top of skorch. Training runs in two stages: ``warmup_epochs`` of the plain loss
    on the training rows, then ``max_epochs`` with the method named by ``weighting``.

    Parameters
    ----------
    module : torch.nn.Module class or instance, or None, default=None
        The network; its output (the first, if it returns a tuple) goes to the criterion. Arguments of a class
        are set as ``module__<name>``. Those called ``n_features`` and ``n_classes`` are filled in from the
        data unless you set them. None builds a `skreweight.modules.MLP` whose first layer scales the columns. An
        instance is copied, never changed. A network with a method ``fit_scaling`` and scales that nothing has fitted
        yet, as these and `skreweight.modules.TableNet` are, learns them from the training rows.
    weighting : str, class or object, default="proportion"
        ``"none"``, ``"proportion"``, ``"two-phase"``, ``"ren"``, ``"hu"``, ``"ours"``, ``"absgd"``, ``"term"``,
        ``"top-loss"``, ``"eg"``, ``"meta"``, ``"meta-weight-net"``, ``"crt"``, ``"lws"``, ``"tau-norm"`` or
        ``"logit-adjustment"``, or a `skreweight.weighting.Weighting`. Its parameters are set as
        ``weighting__<name>``; an object of yours is copied, never changed.
    validation_data : None, int, float, splitter or pair, default=None
        The balanced validation rows. None: where the method needs them, the same number from every class is
        held out of the training rows: a fifth of the rarest class, but at least 1 and at most 100. An
        int: rows per class. A float in (0, 1): a fraction of the rarest class. A scikit-learn splitter or
        skorch ``ValidSplit``: its first split. A pair ``(X_val, y_val)``, already preprocessed like X. What is
        passed to `fit` wins.
    warmup_epochs : int, default=15
        Epochs of stage 1.
    max_epochs : int, default=10
        Epochs of stage 2.
    batch_size : int, default=128
        −1 puts all rows into one batch.
    lr : float, default=3e-3
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
    sampling : None, "balanced", "sqrt", "progressive", "effective-number" or float in [0, 1], default=None
        How an epoch draws its rows, as many as there are. None: each comes once. A number q: a row is of class c
        with chance p_c ∝ n_c^q; ``"balanced"``: q = 0, ``"sqrt"``: q = 1/2. ``"progressive"``: from natural to
        balanced. ``"effective-number"``: p_c ∝ n_c (1 − β)/(1 − β^n_c), β = 0.9999. Sample weights become chances.
    defer_sampling : bool, default=False
        Whether it sets in only with stage 2.
    stage_two_trainable : None, str or sequence of str, default=None
        What stage 2 trains: glob patterns of parameter names, as skorch's ``Freezer`` takes them, and
        ``"classifier"`` for the last layer. None: all. Normalisation layers that are not trained keep their statistics.
    classifier : str, default="auto"
        The layer that makes the logits. ``"auto"``: the last one that is called, if its output is the module's.
    train_on_validation : bool, default=False
        Whether the validation rows are training rows as well: the control for methods that see them.
    validation_batch_size : int or None, default=None
        How many validation rows, drawn afresh at random, stand for all in each step; None: all.
    keep_best : {"epoch", "step", False}, default="epoch"
        Restore the parameters of stage 2 with the best validation accuracy, ties broken by lower validation
        loss, looked at after each epoch or step. Without validation rows nothing is restored.
    restart_stage_two : bool or "auto", default="auto"
        Whether stage 2 begins with a new optimiser (no momentum, no averages) and restarted learning-rate schedules.
        ``"auto"``: with ``"ours"`` (and ``"crt"``, which always does).
    on_nonfinite : {"raise", "skip"}, default="raise"
        What happens when a loss or gradient is NaN or infinite: stop with an error at the end of the epoch,
        the parameters of the last good step kept, or skip such batches and warn.
    diagnostics : bool, default=False
        Add to the history, per epoch of stage 2: L_val before and after the constraint steps and their sizes,
        the effective number of rows (Σw)²/Σw² of each class, the share of stored weights at their floor.
    autocast : {"bfloat16"} or None, default=None
        Mixed precision of the forward pass for the methods that need no products of gradients, and stage 1.
    device : str or torch.device, default="auto"
        ``"auto"``: CUDA where there is one, else the CPU.
    distributed : {"auto", True, False}, default="auto"
        Whether the processes that torchrun started share every batch. True: without any this is an error.
    random_state : int, RandomState instance or None, default=None
        Two fits with the same int are equal bit for bit on the CPU. torch's generators are left as they were.
    verbose : int, default=0
        1 prints a line per epoch.
    callbacks : list of skorch callbacks, "disable" or None, default=None
    warm_start : bool, default=False
        Whether `fit` goes on from the present parameters.
    checkpoint : None, str or path, default=None
        A file that `fit` writes after each epoch, whole or not at all. A `fit` that finds the file of one with the
        same data and parameters goes on from it, bit for bit; the file of another fit is refused. `partial_fit` and a
        warm start take no notice of it.
    checkpoint_every : int, default=1
        After how many epochs it is written.
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
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Where X had string column names.
    example_weights_ : ndarray of shape (n_rows,)
        One figure per row of X as given to `fit`; NaN for rows held out. The stored weights of a method that
        stores them, otherwise w_i·B as the last epoch used it (1: counts as in the plain mean loss).
    validation_indices_ : ndarray of shape (m,) or None
        The rows of X held out for validation, or None where they came from elsewhere.
    class_counts_ : ndarray of shape (n_classes,)
        Number of training rows per class, each with its sample weight over the mean of these.
    history_ : skorch.history.History
        One entry per epoch: ``stage``, ``train_loss`` (mean over rows), ``valid_loss``, ``valid_acc``, ``dur``.
    stage_ : int
        The stage, 1 or 2, of the epoch that training came to last; callbacks may ask for it from its begin on.
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

    prefixes_: ClassVar[list[str]] = [*SkorchClassifier.prefixes_, "weighting"]
    cuda_dependent_attributes_: ClassVar[list[str]] = ["weighting_", "progress_"]
    components: ClassVar = (ObjectComponent("weighting", get_weighting, WEIGHTINGS),)
    constraints: ClassVar[dict[str, list[Any]]] = {**SkorchClassifier.constraints, **CONSTRAINTS}

    def __init__(
        self,
        module: Any = None,
        *,
        weighting: str | type[Weighting] | Weighting = "proportion",
        validation_data: Any = None,
        warmup_epochs: int = 15,
        max_epochs: int = 10,
        batch_size: int = 128,
        lr: float = 3e-3,
        optimizer: Any = torch.optim.Adam,
        criterion: Any = nn.CrossEntropyLoss,
        class_weight: Any = None,
        defer_class_weight: bool = False,
        sampling: str | float | None = None,
        defer_sampling: bool = False,
        stage_two_trainable: str | Sequence[str] | None = None,
        classifier: str = "auto",
        train_on_validation: bool = False,
        validation_batch_size: int | None = None,
        keep_best: str | bool = "epoch",
        restart_stage_two: bool | str = "auto",
        on_nonfinite: str = "raise",
        diagnostics: bool = False,
        autocast: str | None = None,
        device: Any = "auto",
        distributed: str | bool = "auto",
        random_state: Any = None,
        verbose: int = 0,
        callbacks: Any = None,
        warm_start: bool = False,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 1,
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
            module, criterion=criterion, optimizer=optimizer, lr=lr, max_epochs=max_epochs, batch_size=batch_size,
            device=device, verbose=verbose, callbacks=callbacks, warm_start=warm_start, classes=classes,
            predict_nonlinearity=predict_nonlinearity, iterator_train=iterator_train, iterator_valid=iterator_valid,
            dataset=dataset, train_split=train_split, compile=compile, use_caching=use_caching,
            torch_load_kwargs=torch_load_kwargs, **kwargs,
        )  # fmt: skip
        self.weighting = weighting
        self.validation_data = validation_data
        self.warmup_epochs = warmup_epochs
        self.class_weight = class_weight
        self.defer_class_weight = defer_class_weight
        self.sampling = sampling
        self.defer_sampling = defer_sampling
        self.stage_two_trainable = stage_two_trainable
        self.classifier = classifier
        self.train_on_validation = train_on_validation
        self.validation_batch_size = validation_batch_size
        self.keep_best = keep_best
        self.restart_stage_two = restart_stage_two
        self.on_nonfinite = on_nonfinite
        self.diagnostics = diagnostics
        self.autocast = autocast
        self.distributed = distributed
        self.random_state = random_state
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        **unknown: Any,
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
        refuse_arguments("fit", unknown)
        goes_on = bool(self.warm_start and self.initialized_)
        learns = not goes_on or not hasattr(self, "n_features_in_")
        train(self, X, y, sample_weight, X_val, y_val, goes_on=goes_on, learns=learns)
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
        epochs: int | None = None,
        **unknown: Any,
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
        epochs : int or None, default=None
            How many epochs to train; None: what is left, as above.

        Returns
        -------
        self
        """
        refuse_arguments("partial_fit", unknown)
        check_epochs(epochs)
        goes_on = bool(self.initialized_)
        learns = not goes_on or not hasattr(self, "n_features_in_")
        if "classes_inferred_" in self.__dict__:
            check_same_classes(classes, self.labels_)
            classes = self.labels_
        train(
            self, X, y, sample_weight, X_val, y_val,
            goes_on=goes_on, learns=learns, classes=classes, every_class=False, n_epochs=epochs,
        )  # fmt: skip
        return self

    def features(self, X: Any) -> NDArray[Any]:
        """Return what the layer that makes the logits is given, an ndarray of shape (n_rows, ...).

        A ValueError says where that layer is not found: name it by ``classifier``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset
        """
        return features_of(self, X)

    # ---------------------------------------------------------------- components

    def initialize(self) -> Self:
        """Make module, criterion, optimiser, weighting and callbacks anew; return self."""
        self._check_parameters()
        self.progress_ = self._new_state()
        return self._initialize_components()

    def _new_state(self) -> TrainingState:
        return TrainingState(int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)))

    def initialize_module(self) -> Self:
        """Make the module, with the sizes that its class asks for; training begins at the first epoch."""
        if "progress_" not in self.__dict__:
            self.progress_ = self._new_state()
        self.progress_.start_over()
        with self.progress_.drawing(torch.device(self.device)):
            return super().initialize_module()

    def _make(self, component: ObjectComponent) -> None:
        super()._make(component)
        self.progress_.weighting = self.weighting_  # saved and loaded with the rest

    def _changed_in_place(self) -> list[Any]:
        own = [self.__dict__.get(name) for name in ("progress_", "weighting_")]
        return [*super()._changed_in_place(), *(part for part in own if part is not None)]

    def _set_skorch_params(self, params: dict[str, Any]) -> None:
        going_on = {**schedules_of(self.callbacks_), **self.progress_.schedules} if self.initialized_ else {}
        super()._set_skorch_params(params)
        if self.initialized_ and any(name.startswith("callbacks") for name in params):
            changed = {name.split("__")[1] for name in params if name.startswith("callbacks__")}
            going_on = {} if "callbacks" in params else going_on
            self.progress_.schedules = {k: v for k, v in going_on.items() if k not in changed}

    def _outputs(self, X: Any) -> Tensor:
        return self._corrected(super()._outputs(X))

    def _corrected(self, outputs: Tensor) -> Tensor:
        if self._answers_in_codes or not self.weighting_.corrects:  # callbacks score the network itself
            return outputs
        return predict.corrected(outputs, self.criterion_, self.weighting_.corrected)

    def trim_for_prediction(self) -> None:
        """Drop what prediction does not need; ``sklearn.base.clone`` makes an estimator that can be trained."""
        super().trim_for_prediction()
        self.weighting_.state_ = self.weighting_.correction()
        self.progress_ = TrainingState(self.progress_.seed, self.weighting_)

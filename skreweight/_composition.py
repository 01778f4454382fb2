"""How an estimator's parameters, its rows, the training and skorch's lifecycle are put together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from numbers import Number
from typing import Any

import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import LRScheduler
from torch import Tensor
from torch.optim import Optimizer

from skreweight._checks import check_shared, check_stand, check_together
from skreweight._listener import SkorchListener, silent_beside_the_first
from skreweight._net.base import SkorchClassifier
from skreweight._net.check import check_watched
from skreweight._net.checkpoint import CheckpointFile, RunCheckpoint
from skreweight._net.criterion import class_weight_vector
from skreweight._net.explain import FAILURES, explained, first_bad_item
from skreweight._net.indices import looks_up
from skreweight._net.outcome import ends_finite, warn_of_outcome
from skreweight._net.outputs import FirstOutputs
from skreweight._net.predict import logits_of
from skreweight._net.predicting import rows_at_once
from skreweight._net.resuming import go_on_from
from skreweight._net.scaling import Scales, fit_scaling
from skreweight._net.schedules import go_on, put_back, restart, schedules_of, settings_of
from skreweight._rows.check import is_dataset
from skreweight._rows.fingerprint import of_rows, of_value
from skreweight._rows.place import Given, Labelled, Rows
from skreweight._rows.prepare import Carving, Learned, cast, prepare, sorted_classes
from skreweight._training.guard import NonFiniteError
from skreweight._training.processes import Processes, joined
from skreweight._training.run import Run
from skreweight._training.stage import Plan, Stage
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.exchange import LOCAL, Exchange
from skreweight.core.model import Model
from skreweight.core.output_layer import FeatureModule
from skreweight.core.validation_loss import ROWS_AT_ONCE
from skreweight.weighting import NoWeighting, Weighting


@dataclass
class Known:
    """What estimators that are given the same data need to find out only once.

    Attributes
    ----------
    prepared : dict
        What was made of the data, by what was asked for.
    scales : Scales
    """

    prepared: dict[Any, tuple[Given, Learned]] = field(default_factory=dict)
    scales: Scales = field(default_factory=dict)


def train(
    net: SkorchClassifier,
    *data: Any,
    goes_on: bool,
    learns: bool,
    classes: Any = None,
    every_class: bool = True,
    judged: Labelled | None = None,
    checkpoint: RunCheckpoint | None = None,
    n_epochs: int | None = None,
) -> None:
    """Train the epochs that are left of both stages, or all of them.

    Parameters
    ----------
    net : ReweightedClassifier
    *data : X, y, sample_weight, X_val, y_val
    goes_on : bool
        Whether training goes on from where it stands. An error undoes everything where it does not, and what comes
        before the first step where it does: a trained network is worth keeping.
    learns : bool
        Whether columns and classes are learned anew.
    classes : array-like or None, default=None
        All labels, where they are learned and y may lack some.
    every_class : bool, default=True
        Whether every class must have a row to train on.
    judged : Labelled or None, default=None
        Rows on which parameters are judged instead of the validation rows, by the loss alone.
    checkpoint : RunCheckpoint or None, default=None
        Of a fit that this one is a part of; None: the estimator's own, if it has one and begins here.
    n_epochs : int or None, default=None
        How many epochs; None: what is left of both stages, or another stage 2.
    """
    with joined(net.distributed, net.device) as exchange:
        file = _checkpoint_of(net, exchange) if checkpoint is None and not goes_on else None
        with _undone_on_error(net):
            seed = None if file is None else file.start.get("seed")
            given = begun(
                net,
                *data,
                goes_on=goes_on,
                learns=learns,
                classes=classes,
                every_class=every_class,
                seed=seed,
                exchange=exchange,
            )
            if judged is not None:
                like = given.labelled.features.dtype  # integers stay such where those of X do
                given = replace(given, judged=replace(judged, features=judged.features.to(like)))
            if file is not None:
                file.belongs_to(_fingerprint(net, given), {"seed": net.progress_.seed})
                checkpoint = file.next_run()
            rows = given.on(torch.device(net.device), net._floating_dtype())
            if not goes_on:
                _run(net, given, rows, data[0], data[1], checkpoint, exchange, n_epochs=n_epochs)
        if goes_on:
            _run(net, given, rows, data[0], data[1], exchange=exchange, n_epochs=n_epochs)


def begun(
    net: SkorchClassifier,
    *data: Any,
    goes_on: bool = False,
    learns: bool = True,
    classes: Any = None,
    every_class: bool = True,
    seed: int | None = None,
    exchange: Exchange = LOCAL,
    known: Known | None = None,
) -> Given:
    """Check parameters and data, learn what is to be learned of them, make the components.

    Parameters as in `train`; `seed` is that of a fit which is taken up again, `known` what other estimators have
    found out about the same data.
    """
    net._check_parameters()
    if not goes_on:
        net.progress_ = net._new_state()
        net.progress_.seed = net.progress_.seed if seed is None else seed
        if isinstance(exchange, Processes):
            net.progress_.seed = exchange.led(net.progress_.seed)
    known = Known() if known is None else known
    given, learned = _prepared(net, data, learns, classes, every_class, known)
    net._learn(learned)
    if not goes_on:
        net._initialize_components()
        check_together(net)
    features = given.labelled.features
    if isinstance(features, Tensor) and (features.is_floating_point() or not isinstance(data[0], Tensor)):
        integers = not features.is_floating_point() and looks_up(net.module_, features)
        key = id(given), integers
        if key not in known.prepared:  # where it stays, so that no other takes its place in memory
            known.prepared[key] = cast(given, integers), learned
        given, _ = known.prepared[key]
    fit_scaling(net.module_, given, known.scales)
    if isinstance(exchange, Processes):
        check_shared(net, given, exchange)
    return given


#: Parameters on which the trained network does not depend.
WITHOUT_EFFECT = {
    "callbacks",  # looked at as they were given
    "checkpoint",
    "checkpoint_every",
    "distributed",  # the same but for rounding
    "iterator_valid",
    "predict_nonlinearity",
    "torch_load_kwargs",
    "use_caching",
    "verbose",
    "warm_start",
}


def _checkpoint_of(net: SkorchClassifier, exchange: Exchange) -> CheckpointFile | None:
    if net.checkpoint is None:
        return None
    net._check_parameters()
    return CheckpointFile(net.checkpoint, net.checkpoint_every, writes=exchange.rank == 0)


def _fingerprint(net: SkorchClassifier, given: Given) -> dict[str, str]:
    """What the fit depends on, by the names that its user knows."""
    params = {k: v for k, v in net.get_params().items() if k.split("__")[0] not in WITHOUT_EFFECT}
    validation = given.validation
    return {
        "the estimator": f"{type(net).__module__}.{type(net).__qualname__}",
        **{name: of_value(value) for name, value in sorted(params.items())},
        "callbacks": of_value(net.callbacks),
        "X": of_rows(given.labelled.features),
        "y": of_rows(given.labelled.codes) + of_value(net.labels_.tolist()),
        "sample_weight": of_rows(given.labelled.weights),
        "the validation rows": of_rows(given.held)
        + ("" if validation is None else of_rows(validation.features) + of_rows(validation.codes)),
    }


@contextmanager
def _undone_on_error(net: SkorchClassifier) -> Iterator[None]:
    """Undo what was learned if the block fails, unless new components were trained for an epoch by then."""
    before = dict(net.__dict__)
    try:
        yield
    except BaseException as error:
        by_rows = isinstance(error, NonFiniteError) and error.by_rows
        if isinstance(error, NonFiniteError) and not by_rows:
            raise
        progress = net.__dict__.get("progress_")
        if by_rows or progress is before.get("progress_") or progress is None or progress.epochs_done == 0:
            net.__dict__.clear()
            net.__dict__.update(before)
        raise


def _prepared(
    net: SkorchClassifier,
    data: tuple[Any, ...],
    learns: bool,
    classes: Any,
    every_class: bool,
    known: Known,
) -> tuple[Given, Learned]:
    owner, method = type(net).__name__, net.components[0].made(net.__dict__)
    labels = None if classes is None else sorted_classes(classes, owner)
    if net.classes is not None or not learns:
        labels = net.labels_
    asked: dict[str, Any] = {
        "owner": owner,
        "carving": Carving(
            net.validation_data, method.wants_validation, net.train_on_validation, net.progress_.seed
        ),
        "any_dimensions": net.module is not None,
        "every_class": every_class and net.classes is None,
    }
    # A splitter may draw, arrays are not compared: only what is a number, or nothing, is asked for again.
    again = labels is None and learns and isinstance(net.validation_data, Number | None)
    key = (type(net.validation_data), *asked.values()) if again else object()
    if key not in known.prepared:
        columns = None if learns else net._columns()
        known.prepared[key] = prepare(*data, classes=labels, columns=columns, **asked)
    return known.prepared[key]


def _run(
    net: SkorchClassifier,
    given: Given,
    rows: Rows,
    X: Any,
    y: Any,
    checkpoint: RunCheckpoint | None = None,
    exchange: Exchange = LOCAL,
    *,
    n_epochs: int | None = None,
) -> None:
    """Run as many epochs, None: those that are left, with labels as codes, inside skorch's lifecycle."""
    processes = exchange if isinstance(exchange, Processes) else None
    with net._answering_in_codes(), silent_beside_the_first(net, exchange.rank):
        _begin(net, X, y)
        n_all = net.warmup_epochs + net.max_epochs
        if checkpoint is not None and checkpoint.saved is not None:
            go_on_from(net, checkpoint.saved)
            n_epochs = 0 if net.progress_.stopped else n_all - net.progress_.epochs_done
        else:
            left = net.progress_.epochs_to_go(n_all, net.max_epochs)
            n_epochs = left if n_epochs is None else n_epochs
        # From here on what counts is what the callbacks have left: components may be others by now.
        if net._floating_dtype() != rows.dtype:
            rows = given.on(rows.device, net._floating_dtype())
        if processes is not None:
            check_stand(net, processes)
        run = Run(lambda: _plan(net), rows, net.progress_, SkorchListener(net, rows, checkpoint), processes)
        first_outputs = FirstOutputs(net.criterion_, len(net.labels_))
        check_watched(net.callbacks_, n_epochs, has_validation=rows.validation is not None)
        net.progress_.ended = False
        try:
            run.train(n_epochs)
            if not ends_finite(net, rows.some, has_validation=rows.validation is not None):
                raise NonFiniteError(None)
        except NonFiniteError as error:
            largest = float(rows.x.abs().max()) if isinstance(rows.x, Tensor) else 0.0
            item = first_bad_item(rows.x) if is_dataset(rows.x) else None
            error.explain(len(net.history), largest, net.lr, item)
            raise
        except FAILURES as error:
            clear = explained(error, net.module_, net.criterion_, rows.few())
            if clear is None:
                raise
            raise clear from error
        finally:
            first_outputs.remove()
            net.example_weights_ = run.example_weights()[: rows.n_given].cpu().numpy()
            net.progress_.row_weights, net.progress_.ended = None, True
        warn_of_outcome(net, rows.some)
        net.notify("on_train_end", X=X, y=y)
        if processes is not None:  # a callback of the first process may have put other parameters there
            processes.lead([*net.module_.parameters(), *net.module_.buffers()])
        run.correct()  # a Checkpoint may have loaded the best parameters, and the state of the middle with them
        net.progress_.ended = True


def _begin(net: SkorchClassifier, X: Any, y: Any) -> None:
    """Notify of the begin of training; schedules that ran before, or were loaded, go on where they stood."""
    optimizer, states = net.optimizer_, schedules_of(net.callbacks_)
    net.on_train_begin(net, X=X, y=y)
    for name, callback in net.callbacks_:
        settings = settings_of(net.optimizer_)
        callback.on_train_begin(net, X=X, y=y)
        states |= net.progress_.schedules  # LoadInitState may have loaded a checkpoint just now
        if isinstance(callback, LRScheduler) and name in states:
            put_back(net.optimizer_, settings)  # making a scheduler has moved the learning rates
    if net.optimizer_ is not optimizer:  # for a new module, whose training begins at the first epoch
        states = net.progress_.schedules
    net.progress_.schedules = {}
    restart(net.callbacks_, net.optimizer_)
    go_on(net.callbacks_, states)


def _plan(net: SkorchClassifier) -> Plan:
    """What is to be trained, as parameters and components are now."""
    plain = loss = ExampleLoss(net.criterion_)
    if net.class_weight is not None:
        scale = class_weight_vector(net.class_weight, net.class_counts_, net.labels_)
        loss = ExampleLoss(net.criterion_, scale.to(torch.device(net.device), net._floating_dtype()))
    model = Model(net.module_)
    model.beside = {f"criterion {n}": p for n, p in net.criterion_.named_parameters() if p.requires_grad}
    return plan_of(net, model, net.optimizer_, net.weighting_, plain, loss)


def plan_of(
    net: SkorchClassifier,
    model: Model,
    optimizer: Optimizer,
    weighting: Weighting,
    plain: ExampleLoss,
    loss: ExampleLoss,
) -> Plan:
    """Return the plan that an estimator's parameters make of components, its own or those of a pack.

    Parameters
    ----------
    net : ReweightedClassifier
    model, optimizer, weighting
        What is trained, by what, with what in stage 2.
    plain, loss : ExampleLoss
        Without and with class weights.
    """
    before = net.warmup_epochs if net.defer_sampling else 0
    drawn = {"sampler": net.sampling, "ramp": (before, net.warmup_epochs + net.max_epochs - before)}
    stages = [
        Stage(
            1,
            net.warmup_epochs,
            NoWeighting(),
            plain if net.defer_class_weight else loss,
            **({} if net.defer_sampling else drawn),
        ),
        Stage(
            2,
            net.max_epochs,
            weighting,
            loss,
            fresh_optimizer=weighting.restarts if net.restart_stage_two == "auto" else net.restart_stage_two,
            keep_best=net.keep_best if net.keep_best in ("epoch", "step") else None,
            trains=patterns(net.stage_two_trainable),
            **drawn,
        ),
    ]
    return Plan(
        model,
        optimizer,
        weighting.plan(stages),
        plain,
        codes_of=net.codes_of,
        labels=net.labels_,
        batches=net.batch_options(),
        loader=net.iterator_train,
        validation_batch_size=net.validation_batch_size,
        rows_at_once=rows_at_once(net, ROWS_AT_ONCE),
        on_nonfinite=net.on_nonfinite,
        autocast=None if net.autocast is None else torch.bfloat16,
        diagnostics=net.diagnostics,
        classifier=net.classifier,
        logits_of=lambda outputs, n_lead: logits_of(outputs, net.criterion_, n_lead),
    )


def patterns(trainable: Any) -> tuple[str, ...] | None:
    """Return what ``stage_two_trainable`` says as a tuple."""
    return (trainable,) if isinstance(trainable, str) else None if trainable is None else tuple(trainable)


def features_of(net: SkorchClassifier, X: Any) -> NDArray[Any]:
    """Return what the layer that makes the logits is given for the rows of X, (n_rows, ...)."""
    check_is_fitted(net)
    # The same estimator, with a copy of the module that shares its tensors and returns features.
    view = object.__new__(type(net))
    view.__dict__.update(net.__dict__)
    view.__dict__["module_"] = FeatureModule(Model(net.module_).evaluation().module, net.classifier)
    array: NDArray[Any] = torch.cat(list(view.forward_iter(X))).numpy()
    return array

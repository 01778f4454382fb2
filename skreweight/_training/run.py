"""One run of stages: puts rows, steps, loop and state together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skreweight._rows.batches import Batch
from skreweight._rows.check import is_dataset
from skreweight._rows.place import Judged, Rows
from skreweight._rows.samplers import class_shares
from skreweight._training.diagnostics import Figure, summarised
from skreweight._training.freezing import chosen, freeze, needs_classifier, thaw
from skreweight._training.guard import Guard, NonFiniteError
from skreweight._training.keep_best import Judgement, judged
from skreweight._training.loop import Epoch, Listener, Loop
from skreweight._training.network import Network
from skreweight._training.processes import Processes
from skreweight._training.shared import CommonDraws, SharedListener, SharedValidationLoss, shared
from skreweight._training.stage import Plan, Stage, stage_at
from skreweight._training.state import TrainingState
from skreweight._training.step import TrainingStep
from skreweight.core.output_layer import OutputLayer, output_layer
from skreweight.core.validation_loss import ValidationLoss
from skreweight.weighting import NewState, Trained, Weighting


class Run:
    """Trains what a plan says on the rows, from where the state stands.

    Parameters
    ----------
    plan : callable () -> Plan
        Asked at the begin of every epoch: a module, optimiser, loss or weighting that has been replaced is
        followed there.
    rows : Rows
    state : TrainingState
    listener : Listener
    exchange : Processes or None, default=None
        The processes that share every batch; None: this one alone.

    Raises
    ------
    ValueError
        Where the plan cannot be trained.
    """

    def __init__(
        self,
        plan: Callable[[], Plan],
        rows: Rows,
        state: TrainingState,
        listener: Listener,
        exchange: Processes | None = None,
    ) -> None:
        self.rows, self.state = rows, state
        self._asked, self._processes = plan, exchange
        self._listener = listener if exchange is None else SharedListener(listener, exchange)
        self._batches: dict[Any, Iterable[Batch]] = {}
        self._output_layer: tuple[Any, OutputLayer] | None = None
        self._plan = self._ask()
        self._network = Network.of(self._plan)
        for stage in self._plan.stages:
            if needs_classifier(stage):
                stage.weighting.check_classifier(self._classifier(self._plan))
            if stage.trains:
                self._trained_by(stage, self._plan)

    def _ask(self) -> Plan:
        """Ask for the plan; its weightings are started, and what they train beside the network is known to it."""
        plan = self._asked()
        for stage in plan.stages:
            self._start(plan, stage.weighting)
            plan.model.beside = {**plan.model.beside, **stage.weighting.beside()}
        return plan

    def train(self, n_epochs: int) -> None:
        """Train for as many epochs; Ctrl-C ends them early.

        Afterwards the module is in evaluation mode and holds the best parameters, if they were looked for; on an error
        it holds those that training had come to. A correction of the logits is fitted to what it holds.

        Raises
        ------
        NonFiniteError
            Where a loss or gradient is not finite and the plan does not skip such batches.
        """
        try:
            self._train(n_epochs)
        except BaseException:
            with suppress(ValueError):  # what went wrong first is what is told
                self.correct()
            raise
        if any(stage.keep_best for stage in self._plan.stages):
            self.state.settle(self._plan.model)
        self.correct()

    def correct(self) -> None:
        """Fit the correction of the logits to the parameters that the module holds."""
        self._plan.stages[-1].weighting.finish(self._trained())

    def _train(self, n_epochs: int) -> None:
        together = nullcontext() if self._processes is None else self._processes.stopping_together()
        try:
            self.state.go_on(self._plan.model)
            self._plan.stages[-1].weighting.reopen()
            with together, self.state.generators(self.rows.device) as generators:
                loop = Loop(
                    self.state, self._listener, self._present_stage, lambda: self._next_epoch(generators)
                )
                if self._processes is not None:
                    self._processes.lead(list(self._plan.model.state().values()))
                loop.train(n_epochs)
        except KeyboardInterrupt:
            self._listener.interrupted()
            if self._processes is not None and self._processes.lost:
                raise
            self._merge()
            if self._processes is not None:  # it came in a step, where each draws masks of its own
                self._processes.lead(list(self.state.random_state.values()))
        except NonFiniteError:
            self._merge()
            raise
        finally:
            self._network.guard.release()
            thaw(self._network.model, self.state)
            self._network.model.module.eval()

    @property
    def guard(self) -> Guard:
        """What stands before the optimiser."""
        return self._network.guard

    def example_weights(self) -> Tensor:
        """Return one figure per row and member, shape (*M, N), float64; NaN where the row was not trained on.

        The stored weights of a method that stores them, otherwise w_i·B as the last epoch used it: 1 is what a
        row weighs in the plain mean.
        """
        rows, weighting = self.rows, self._plan.stages[-1].weighting
        weights = weighting.stored_weights
        if weights is None:
            weights = self.state.row_weights
        if weights is None:  # no step of the last stage touched the training rows, or none came
            plain = torch.ones(len(rows.targets)) if rows.multiplicity is None else rows.multiplicity
            weights = plain * weighting.weights_of_untouched_rows()
        weights = weights.detach().double()
        if rows.train is None:
            return weights.clone()
        shape = torch.broadcast_shapes(weights.shape[:-1], rows.train.shape[:-1])
        trained = torch.zeros(*shape, weights.shape[-1], dtype=torch.bool, device=weights.device)
        trained.scatter_(-1, rows.train.to(weights.device).expand(*shape, -1), True)
        return torch.where(trained, weights, torch.nan)

    def _present_stage(self) -> tuple[Stage, bool]:
        done = self.state.epochs_done
        stage, first, _ = stage_at(self._ask().stages, done)
        return stage, done == first > 0

    def _next_epoch(self, generators: Sequence[torch.Generator] | None) -> Epoch:
        """Put the next epoch together, from what the plan is by now."""
        plan = self._ask()
        stage, first, stage_ends = stage_at(plan.stages, self.state.epochs_done)
        plan.model.draws.generators = list(generators or ())
        if stage.resets_classifier and self.state.epochs_done == first:
            plan.model.made_anew(self._classifier(plan).name)
        if stage.trains:
            plan = replace(plan, model=freeze(plan.model, self._trained_by(stage, plan), self.state))
        else:
            thaw(plan.model, self.state)
        self._plan = plan
        network = self._network = self._network.following(plan)
        noted: dict[str, list[Tensor]] | None = {} if plan.diagnostics and stage.number > 1 else None
        network.model.follow_mode()  # a callback may have predicted in between
        network.model.draws.generators = list(generators or ())
        step, batches = self._step(stage, noted), self._batches_of(stage, generators)
        if self._processes is not None:
            step, batches = shared(step, self._processes), self._processes.in_step(batches)
            network.model.draws = network.evaluation.draws = CommonDraws(self._processes.common)
        return Epoch(
            stage=stage,
            stage_ends=stage_ends,
            is_last=stage is plan.stages[-1],
            step=step,
            batches=batches,
            device=self.rows.device,
            guard=network.guard,
            weights=self._weights_to_note(stage),
            judge=self._judges(stage),
            keep_if_best=self._keep_if_best,
            diagnose=None if noted is None else lambda: self._diagnose(stage, noted),
            set_learning_rate=stage.learning_rate,
            done_before=(self.state.epochs_done - first) / max(1, stage.n_epochs),
            exchange=step.exchange,
            merge=None if self._processes is None else self._merge,
            # Processes keep one stream in step, which has to be the global one.
            draws_apart=self._processes is None and self._draws_apart(stage),
        )

    def _draws_apart(self, stage: Stage) -> bool:
        """Whether nothing in a step draws from torch's global generators, as a part of the user's might."""
        plan, listener = self._plan, self._listener
        parts = (stage.weighting, plan.optimizer, *stage.loss.criteria)
        known = all(type(part).__module__.startswith(("skreweight.", "torch.")) for part in parts)
        asked = listener.wants_batches or listener.wants_validation or listener.wants_gradients
        sampler = plan.batches.get("batch_sampler")
        loops = plan.loader is not None or is_dataset(self.rows.x)
        loops |= sampler is not None and not type(sampler).__module__.startswith("skreweight.")
        takes_closure = isinstance(plan.optimizer, torch.optim.LBFGS)
        return (
            known
            and self._network.products.is_chain
            and plan.autocast is None
            and self._processes is None  # they put the global generator in step
            and not (asked or loops or takes_closure)
        )

    def _step(self, stage: Stage, noted: dict[str, list[Tensor]] | None) -> TrainingStep:
        plan, network, listener = self._plan, self._network, self._listener
        trains_rows = stage.rows == "training"
        # What is drawn by their sample weights has them by that.
        counts = trains_rows and self._shares(stage) is None
        return TrainingStep(
            model=network.evaluation if stage.network_is_fixed else network.model,
            optimizer=plan.optimizer,
            weighting=stage.weighting,
            loss=stage.loss if trains_rows else plan.plain_loss,
            guard=network.guard,
            products=network.products,
            products_now=network.products_now,
            validation=self._validation_loss(stage),
            multiplicity=self.rows.multiplicity if counts else None,
            penalised=not trains_rows,
            network_is_fixed=stage.network_is_fixed,
            on_gradients=listener.gradients if listener.wants_gradients else None,
            autocast=plan.autocast,
            noted=noted,
        )

    def _validation_loss(self, stage: Stage) -> ValidationLoss | None:
        weighting = stage.weighting
        if not weighting.wants_validation and stage.rows == "training":
            return None
        self._need_validation(weighting)
        penalty = {k: v for k, v in weighting.get_params().items() if k in ("lp_norm", "lp_coef")}
        kind = ValidationLoss if self._processes is None else partial(SharedValidationLoss, self._processes)
        return kind(
            self._network.evaluation,
            self._plan.plain_loss,
            *self._validation_rows(),
            batch_size=self._plan.validation_batch_size,
            rows_at_once=self._plan.rows_at_once,
            **penalty,
        )

    def _need_validation(self, weighting: Weighting) -> None:
        if self.rows.validation is None:
            raise ValueError(
                f"{type(weighting).__name__} needs validation rows and there are none: set it before fit, or give "
                "validation_data."
            )

    def _validation_rows(self) -> tuple[Any, Tensor]:
        """The validation rows, with a leading axis for K members that share them."""
        assert self.rows.validation is not None
        x, targets = self.rows.validation
        shape = self._plan.model.shape
        if targets.dim() > len(shape):
            return x, targets
        if isinstance(x, Tensor):
            return x.expand(*shape, *x.shape), targets.expand(*shape, -1)
        return {k: v.expand(*shape, *v.shape) for k, v in x.items()}, targets.expand(*shape, -1)

    def _start(self, plan: Plan, weighting: Weighting) -> None:
        """Allocate a weighting's state, unless it has one for as many rows; bring it to the device."""
        rows = self.rows
        stored = weighting.stored_weights if hasattr(weighting, "state_") else None
        if not hasattr(weighting, "state_") or (stored is not None and stored.shape[-1] != len(rows.targets)):
            counts = rows.class_counts.expand(*plan.model.shape, -1)
            weighting.start(NewState(len(rows.targets), counts))
        if any(value.device != rows.device for value in weighting.state_dict().values()):
            weighting.load_state_dict({k: v.to(rows.device) for k, v in weighting.state_dict().items()})

    def _batches_of(self, stage: Stage, generators: Sequence[torch.Generator] | None) -> Iterable[Batch]:
        shares = self._shares(stage)
        drawn = None if shares is None else (stage.sampler, stage.progress(self.state.epochs_done))
        if (stage.rows, drawn) not in self._batches:
            plan = self._plan
            self._batches = {}
            self._batches[stage.rows, drawn] = self.rows.batches(
                stage.rows,
                plan.batches,
                loader=plan.loader,
                generators=generators,
                shares=shares,
                sharing=(lambda n_rows: None) if self._processes is None else self._processes.sharing,
            )
        return self._batches[stage.rows, drawn]

    def _shares(self, stage: Stage) -> Tensor | None:
        """The share that each class has of the rows drawn in the next epoch, or None where each row comes once."""
        own = any(self._plan.batches.get(name) is not None for name in ("sampler", "batch_sampler"))
        if stage.sampler is None or stage.rows != "training" or own:
            return None
        return class_shares(self.rows.class_counts, stage.sampler, stage.progress(self.state.epochs_done))

    def _classifier(self, plan: Plan) -> OutputLayer:
        """The layer that makes the logits."""
        key = (plan.model.module, plan.classifier)
        if self._output_layer is None or self._output_layer[0] != key:
            model = plan.model
            # A copy of one network: hooks do not touch the user's module.
            module = copy.deepcopy(model.member(0)).eval() if model.shape else model.evaluation().module
            self._output_layer = (key, output_layer(module, self.rows.few(), plan.classifier))
        return self._output_layer[1]

    def _trained_by(self, stage: Stage, plan: Plan) -> list[str]:
        names = [name for name, _ in plan.model.module.named_parameters()]
        return chosen(stage.trains or (), names, lambda: self._classifier(plan))

    def _trained(self) -> Trained:
        plan, model = self._plan, self._network.evaluation

        @torch.no_grad()
        def validation() -> tuple[Tensor, Tensor]:
            self._need_validation(plan.stages[-1].weighting)
            x, targets = self._validation_rows()
            return plan.logits_of(model(x), model.n_lead), targets

        def classifier() -> tuple[Tensor, Tensor | None]:
            layer = model.module.get_submodule(self._classifier(plan).name)
            names, state = {id(p): n for n, p in model.module.named_parameters()}, model.state()
            weight, bias = state[names[id(layer.weight)]], getattr(layer, "bias", None)
            return weight, None if bias is None else state[names[id(bias)]]

        counts = self.rows.class_counts.expand(*plan.model.shape, -1)
        return Trained(counts, validation, classifier)

    def _weights_to_note(self, stage: Stage) -> Tensor | None:
        """Where the weights of the rows are written, if the stage's method gives them any and does not store them."""
        weighting, rows = stage.weighting, self.rows
        if stage.rows != "training" or not weighting.changes_weights or weighting.stored_weights is not None:
            return None
        shape, known = (*self._plan.model.shape, len(rows.targets)), self.state.row_weights
        if known is None or known.shape != shape:
            self.state.row_weights = torch.ones(shape, dtype=torch.float64, device=rows.device)
        return self.state.row_weights

    def _merge(self) -> None:
        """Bring together the figures of rows that each process has written for its own."""
        if self._processes is None:
            return
        n_rows = len(self.rows.targets)
        for weighting in [stage.weighting for stage in self._plan.stages]:
            for figures in weighting.state_.values():
                if figures.dim() == 1 and len(figures) == n_rows:
                    figures.copy_(self._processes.merged(figures))
        if self.state.row_weights is not None:
            self.state.row_weights.copy_(self._processes.merged(self.state.row_weights))

    def _judges(self, stage: Stage) -> Callable[[], Judgement] | None:
        """What judges the network at the end of an epoch or step; None without rows for it."""
        if self.rows.judged is None and self.rows.validation is None:
            return None
        return lambda: self._judge(stage)

    def _judge(self, stage: Stage) -> Judgement:
        plan, rows = self._plan, self.rows.judged
        if rows is None:
            rows = Judged(*self._validation_rows())
        corrected = stage.weighting.corrected if stage.network_is_fixed else None
        return judged(
            self._network.evaluation, rows, plan.plain_loss, plan.codes_of, corrected, plan.rows_at_once
        )

    def _keep_if_best(self, judgement: Judgement) -> None:
        accuracy = judgement.accuracy
        if self.rows.judged is not None:
            accuracy = torch.zeros_like(accuracy)
        self.state.best.update(self._plan.model, accuracy, judgement.loss)

    def _diagnose(self, stage: Stage, noted: dict[str, list[Tensor]]) -> dict[str, Figure]:
        return summarised(noted, stage.weighting, self.rows, self.state.row_weights, self._plan.labels)

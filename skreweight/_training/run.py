"""One run of stages: puts rows, steps, loop and state together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from skreweight._rows.batches import Batch
from skreweight._rows.place import Judged, Rows
from skreweight._training.diagnostics import Figure, summarised
from skreweight._training.guard import Guard
from skreweight._training.keep_best import Judgement, judged
from skreweight._training.loop import Epoch, Listener, Loop
from skreweight._training.network import Network
from skreweight._training.stage import Plan, Stage, stage_at
from skreweight._training.state import TrainingState
from skreweight._training.step import TrainingStep
from skreweight.core.validation_loss import ValidationLoss
from skreweight.weighting import NewState, Weighting


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

    Raises
    ------
    ValueError
        Where the plan cannot be trained.
    """

    def __init__(
        self, plan: Callable[[], Plan], rows: Rows, state: TrainingState, listener: Listener
    ) -> None:
        self.rows, self.state = rows, state
        self._ask, self._listener = plan, listener
        self._plan = plan()
        self._network = Network.of(self._plan)
        self._batches: dict[str, Iterable[Batch]] = {}
        self._last_weights: Tensor | None = None
        for stage in self._plan.stages:
            self._start(stage.weighting)

    def train(self, n_epochs: int) -> None:
        """Train for as many epochs; Ctrl-C ends them early.

        Afterwards the module is in evaluation mode and holds the best parameters, if they were looked for.

        Raises
        ------
        NonFiniteError
            Where a loss or gradient is not finite and the plan does not skip such batches.
        """
        try:
            self.state.go_on(self._plan.model)
            with self.state.generators(self.rows.device) as generators:
                loop = Loop(
                    self.state, self._listener, self._present_stage, lambda: self._next_epoch(generators)
                )
                loop.train(n_epochs)
        except KeyboardInterrupt:
            self._listener.interrupted()
        finally:
            self._network.guard.release()
            self._network.model.module.eval()
        if any(stage.keep_best for stage in self._plan.stages):
            self.state.settle(self._plan.model)

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
            weights = self._last_weights
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
        plan = self._plan = self._ask()
        network = self._network = self._network.following(plan)
        stage, stage_begins, stage_ends = stage_at(plan.stages, self.state.epochs_done)
        self._start(stage.weighting)
        noted: dict[str, list[Tensor]] | None = {} if plan.diagnostics and stage.number > 1 else None
        network.model.follow_mode()  # a callback may have predicted in between
        network.model.draws.generators = list(generators or ())
        step = self._step(stage, noted)
        return Epoch(
            stage=stage,
            stage_ends=stage_ends,
            is_last=stage is plan.stages[-1],
            step=step,
            batches=self._batches_of(stage, generators),
            device=self.rows.device,
            guard=network.guard,
            weights=self._weights_to_note(stage),
            judge=self._judge if self.rows.judged is not None or self.rows.validation is not None else None,
            keep_if_best=self._keep_if_best,
            diagnose=None if noted is None else lambda: self._diagnose(stage, noted),
            set_learning_rate=stage.learning_rate,
            done_before=(self.state.epochs_done - stage_begins) / max(1, stage.n_epochs),
        )

    def _step(self, stage: Stage, noted: dict[str, list[Tensor]] | None) -> TrainingStep:
        plan, network, listener = self._plan, self._network, self._listener
        trains_rows = stage.rows == "training"
        return TrainingStep(
            model=network.model,
            optimizer=plan.optimizer,
            weighting=stage.weighting,
            loss=stage.loss if trains_rows else plan.plain_loss,
            guard=network.guard,
            products=network.products,
            products_now=network.products_now,
            validation=self._validation_loss(stage),
            multiplicity=self.rows.multiplicity if trains_rows else None,
            penalised=not trains_rows,
            on_gradients=listener.gradients if listener.wants_gradients else None,
            autocast=plan.autocast,
            noted=noted,
        )

    def _validation_loss(self, stage: Stage) -> ValidationLoss | None:
        weighting = stage.weighting
        if not weighting.needs_validation and stage.rows == "training":
            return None
        if self.rows.validation is None:
            raise ValueError(
                f"{type(weighting).__name__} needs validation rows and there are none: set it before fit, or give "
                "validation_data."
            )
        penalty = {k: v for k, v in weighting.get_params().items() if k in ("lp_norm", "lp_coef")}
        return ValidationLoss(
            self._network.evaluation,
            self._plan.plain_loss,
            *self._validation_rows(),
            batch_size=self._plan.validation_batch_size,
            **penalty,
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

    def _start(self, weighting: Weighting) -> None:
        """Allocate a weighting's state, unless it has one for as many rows; bring it to the device."""
        rows = self.rows
        stored = weighting.stored_weights if hasattr(weighting, "state_") else None
        if not hasattr(weighting, "state_") or (stored is not None and stored.shape[-1] != len(rows.targets)):
            counts = rows.class_counts.expand(*self._plan.model.shape, -1)
            weighting.start(NewState(len(rows.targets), counts))
        if any(value.device != rows.device for value in weighting.state_dict().values()):
            weighting.load_state_dict({k: v.to(rows.device) for k, v in weighting.state_dict().items()})

    def _batches_of(self, stage: Stage, generators: Sequence[torch.Generator] | None) -> Iterable[Batch]:
        if stage.rows not in self._batches:
            plan = self._plan
            self._batches[stage.rows] = self.rows.batches(
                stage.rows, plan.batches, loader=plan.loader, generators=generators
            )
        return self._batches[stage.rows]

    def _weights_to_note(self, stage: Stage) -> Tensor | None:
        """Where the weights of the rows are written, if the stage's method gives them any and does not store them."""
        weighting, rows = stage.weighting, self.rows
        if stage.rows != "training" or not weighting.changes_weights or weighting.stored_weights is not None:
            return None
        if self._last_weights is None:
            shape = (*self._plan.model.shape, len(rows.targets))
            self._last_weights = torch.ones(shape, dtype=torch.float64, device=rows.device)
        return self._last_weights

    def _judge(self) -> Judgement:
        plan, rows = self._plan, self.rows.judged
        if rows is None:
            rows = Judged(*self._validation_rows())
        return judged(self._network.evaluation, rows, plan.plain_loss, plan.codes_of)

    def _keep_if_best(self, judgement: Judgement) -> None:
        accuracy = judgement.accuracy
        if self.rows.judged is not None:
            accuracy = torch.zeros_like(accuracy)
        self.state.best.update(self._plan.model, accuracy, judgement.loss)

    def _diagnose(self, stage: Stage, noted: dict[str, list[Tensor]]) -> dict[str, Figure]:
        return summarised(noted, stage.weighting, self.rows, self._last_weights, self._plan.labels)

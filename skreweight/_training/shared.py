"""The parts of a step as they are where each process has a share of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from skreweight._rows.batches import Batch
from skreweight._training.diagnostics import Figure
from skreweight._training.keep_best import Judgement
from skreweight._training.loop import Listener
from skreweight._training.processes import Processes
from skreweight._training.stage import Stage
from skreweight._training.step import Outcome, TrainingStep
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.exchange import Exchange
from skreweight.core.members import Parameters
from skreweight.core.products import Products, ProductsFinder
from skreweight.core.random_state import Draws
from skreweight.core.rows import take_rows
from skreweight.core.shared_products import SharedProducts
from skreweight.core.signal_products import SignalProducts
from skreweight.core.validation_loss import ValidationLoss
from skreweight.weighting import Step, Weighting

#: From so many validation rows a process on, each takes its share of them; fewer cost less than a message.
SHARED_FROM = 256


def why_not_shared(module: nn.Module, weighting: Weighting) -> str | None:
    """Return why a network cannot be trained over processes with a weighting, or None where it can."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            return (
                f"the module has a {type(part).__name__}, whose statistics would be those of one process's rows: use "
                "LayerNorm or GroupNorm"
            )
        if isinstance(part, nn.modules.instancenorm._InstanceNorm) and part.track_running_stats:
            return f"the module has a {type(part).__name__} that tracks statistics of one process's rows"
    name = type(weighting).__name__
    if getattr(weighting, "virtual_batch_size", None) is not None:
        return (
            "weighting__virtual_batch_size takes virtual steps with neighbours in the batch, which lie in different "
            "processes: leave it at None"
        )
    if weighting.works_on_shares:
        return None
    if weighting.needs_products:
        return (
            f"{name} works with products of gradients and does not say that it is right on a share of the batch: set "
            "works_on_shares = True in it if it is"
        )
    return None


def shared(step: TrainingStep, exchange: Exchange) -> TrainingStep:
    """Return the step as one process takes it together with the others."""
    return replace(
        step,
        weighting=step.weighting if step.weighting.works_on_shares else _OnTheWhole(step.weighting),
        products=_SharedFinder(step.products, exchange),
        products_now=None if step.products_now is None else _SharedFinder(step.products_now, exchange),
        exchange=exchange,
    )


class _OnTheWhole(Weighting):
    """A weighting that is given all rows of the batch, and of whose weights each process takes its own."""

    def __init__(self, whole: Weighting) -> None:
        self._whole = whole
        self._step: Step | None = None
        if whole.stored_weights is not None:
            raise ValueError(
                f"{type(whole).__name__} stores weights of rows and does not say that it is right on a share of the "
                "batch: set works_on_shares = True in it if it is, or distributed=False."
            )

    @property
    def state_(self) -> dict[str, Tensor]:  # type: ignore[override]
        return self._whole.state_

    def corrected(self, logits: Tensor) -> Tensor:
        return self._whole.corrected(logits)

    def weigh(self, step: Step) -> Tensor:
        self._step = step.whole()
        return step.own(self._whole.weigh(self._step))

    def after_step(self, step: Step) -> None:
        assert self._step is not None
        self._whole.after_step(self._step)


class _SharedFinder(ProductsFinder):
    """Finds products of the share, in the same way in every process."""

    def __init__(self, finder: ProductsFinder, exchange: Exchange) -> None:
        self._finder, self._exchange = finder, exchange
        self._agreed = False
        self.model, self.is_chain = finder.model, finder.is_chain

    def __call__(self, x: Any, targets: Tensor, loss: ExampleLoss) -> Products:
        self._agree(x, targets, loss)
        return SharedProducts(self._finder(x, targets, loss), self._exchange)

    def with_validation(
        self, x: Any, targets: Tensor, loss: ExampleLoss, validation: ValidationLoss
    ) -> tuple[Products, tuple[Tensor, list[Tensor]]]:
        self._agree(x, targets, loss)
        products, known = self._finder.with_validation(x, targets, loss, validation)
        return SharedProducts(products, self._exchange), known

    def _agree(self, x: Any, targets: Tensor, loss: ExampleLoss) -> None:
        """Take the fast way where it was found right on the rows of every process."""
        if self._agreed:
            return
        self._agreed = True
        finder = self._finder
        if not finder._found:
            finder._find(x, targets, loss)
        like = next(iter(finder.model.parameters))
        ways = [finder.recorder is not None, finder._forward_mode]
        doubts = self._exchange.sum(like.new_tensor([float(not way) for way in ways]))
        if doubts[0] > 0:
            finder.recorder = None
        finder._forward_mode = not bool(doubts[1] > 0)


class SharedValidationLoss(ValidationLoss):
    """L_val of which each process computes the part of some of its rows, where these are many.

    Parameters
    ----------
    exchange : Exchange
    *args, **options
        As in `ValidationLoss`.
    """

    def __init__(self, exchange: Exchange, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._exchange = exchange
        self._cut()

    def draw(self) -> None:
        """Draw the rows that stand for L_val until the next call."""
        before = self._drawn
        super().draw()
        if self._drawn is not before:
            self._cut()

    def _cut(self) -> None:
        x, targets = self._drawn
        m, n = targets.shape[-1], self._exchange.n_processes
        self._is_cut = m >= SHARED_FROM * n
        if self._is_cut:
            mine = torch.arange(self._exchange.rank, m, n, device=targets.device)
            self._fraction = len(mine) / m
            self._drawn = take_rows(x, mine), targets[mine]

    def value(self, parameters: Parameters) -> Tensor:
        """Return L_val at the parameters, (1,)."""
        if not self._is_cut:
            return super().value(parameters)
        with self._unpenalised():
            part = super().value(parameters)
        return self.penalised(self._exchange.sum(self._fraction * part), parameters)

    def value_and_gradient(self, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
        """Return L_val and ∇L_val at the parameters."""
        if not self._is_cut:
            return super().value_and_gradient(parameters)
        with self._unpenalised():
            part = super().value_and_gradient(parameters)
        return self._summed(*part, parameters)

    def of_rows(self, products: SignalProducts, parameters: Parameters) -> tuple[Tensor, list[Tensor]]:
        """Return L_val and ∇L_val from the products of this process's rows."""
        if not self._is_cut:
            return super().of_rows(products, parameters)
        with self._unpenalised():
            part = super().of_rows(products, parameters)
        return self._summed(*part, parameters)

    def _summed(
        self, mean: Tensor, gradient: list[Tensor], parameters: Parameters
    ) -> tuple[Tensor, list[Tensor]]:
        value = self._exchange.sum(self._fraction * mean)
        summed = list(self._exchange.gradients([self._fraction * g for g in gradient]))
        return self.penalised(value, parameters), self.penalised_gradient(summed, parameters)

    def _unpenalised(self) -> Any:
        return _without_penalty(self)


class _without_penalty:
    """Context in which L_val is the mean alone."""

    def __init__(self, validation: ValidationLoss) -> None:
        self._validation, self._coef = validation, validation.lp_coef

    def __enter__(self) -> None:
        self._validation.lp_coef = 0.0

    def __exit__(self, *error: object) -> None:
        self._validation.lp_coef = self._coef


class CommonDraws(Draws):
    """Draws that are the same in every process, but for dropout masks.

    Parameters
    ----------
    generator : torch.Generator
        The stream that all processes draw from in step.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def signs(self, like: Tensor) -> Tensor:
        """Return 1 or −1, each half of the time."""
        out = torch.empty(like.shape, dtype=like.dtype)
        return out.bernoulli_(0.5, generator=self._generator).mul_(2).sub_(1).to(like.device)

    def integers(self, high: int, size: int, device: torch.device) -> Tensor:
        """Return numbers below `high`, shape (size,)."""
        return torch.randint(high, (size,), generator=self._generator).to(device)


class SharedListener:
    """A listener whose KeyboardInterrupt stops all processes at the same step.

    Parameters
    ----------
    listener : Listener
    exchange : Processes
    """

    def __init__(self, listener: Listener, exchange: Processes) -> None:
        self._listener, self._exchange = listener, exchange
        self.wants_batches = listener.wants_batches
        self.wants_validation = listener.wants_validation
        self.wants_gradients = listener.wants_gradients

    def _told(self, what: str, *args: Any) -> Any:
        try:
            return getattr(self._listener, what)(*args)
        except KeyboardInterrupt:
            self._exchange.stops = True
            return None

    def stage_begins(self, stage: Stage) -> None:
        """A stage begins."""
        self._told("stage_begins", stage)

    def epoch_begins(self, stage: Stage) -> None:
        """An epoch begins."""
        self._told("epoch_begins", stage)

    def batch_begins(self, batch: Batch) -> None:
        """A step on the batch is about to be taken."""
        self._told("batch_begins", batch)

    def gradients(self, batch: Batch) -> None:
        """The batch's gradients stand in the parameters."""
        self._told("gradients", batch)

    def batch_ends(self, batch: Batch, outcome: Outcome) -> None:
        """A step was taken."""
        self._told("batch_ends", batch, outcome)

    def judged(self, judgement: Judgement) -> None:
        """The network was tried on the validation rows."""
        self._told("judged", judgement)

    def figures(self, values: Mapping[str, Figure]) -> None:
        """What the epoch has come to."""
        self._listener.figures(values)

    def epoch_ends(self) -> bool:
        """An epoch is behind; the stage ends in all processes where one asks for it."""
        return self._exchange.any(bool(self._told("epoch_ends")))

    def epoch_counted(self, *, last: bool) -> None:
        """The state has counted the epoch."""
        self._listener.epoch_counted(last=last)

    def interrupted(self) -> None:
        """Ctrl-C came."""
        self._listener.interrupted()

"""Networks, their optimiser, and what the steps need of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch.optim import Optimizer

from skreweight._training.guard import FiniteGuard, Guard
from skreweight._training.heap import keep_freed_memory
from skreweight._training.members_guard import MembersGuard
from skreweight._training.stage import Plan
from skreweight.core.model import Model
from skreweight.core.products import ProductsFinder


@dataclass(frozen=True)
class Network:
    """A model in both of its modes, the ways to its products, and the guard of its optimiser.

    Attributes
    ----------
    model, evaluation : Model
    optimizer : torch.optim.Optimizer
    products, products_now : ProductsFinder
        In training and in evaluation mode.
    guard : Guard
    """

    model: Model
    evaluation: Model
    optimizer: Optimizer
    products: ProductsFinder
    products_now: ProductsFinder
    guard: Guard

    @staticmethod
    def of(plan: Plan) -> Network:
        """Return the network of a plan.

        Raises
        ------
        ValueError
            Where the optimiser steps none of the model's parameters.
        """
        _check_belong_together(plan.model, plan.optimizer)
        if plan.model.shape:
            keep_freed_memory()
        return _made(plan, _guard(plan))

    def following(self, plan: Plan) -> Network:
        """Return the network as the plan has it by now: this one, if nothing was replaced or frozen."""
        _check_belong_together(plan.model, plan.optimizer)
        same_module = (
            plan.model.module is self.model.module and plan.model.is_compiled == self.model.is_compiled
        )
        guard = self.guard
        if not same_module or plan.optimizer is not self.optimizer or plan.on_nonfinite != guard.policy:
            guard.release()
            guard = _guard(plan)
        elif plan.model.names == self.model.names:
            return self
        return _made(plan, guard)


def _made(plan: Plan, guard: Guard) -> Network:
    model = plan.model
    trained = {id(p) for p in model.parameters}
    for parameter in (p for group in plan.optimizer.param_groups for p in group["params"]):
        if id(parameter) not in trained:
            parameter.grad = None  # what the optimiser would go on with
    evaluation = model.evaluation()
    trusting = plan.trusts_products
    return Network(
        model,
        evaluation,
        plan.optimizer,
        ProductsFinder(model, trusting=trusting),
        ProductsFinder(evaluation, trusting=trusting),
        guard,
    )


def _guard(plan: Plan) -> Guard:
    if plan.model.shape:
        return MembersGuard(plan.model, plan.optimizer)
    return FiniteGuard(plan.model, plan.optimizer, plan.on_nonfinite)


def _check_belong_together(model: Model, optimizer: Optimizer) -> None:
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if stepped.isdisjoint(id(p) for p in model.parameters):
        raise ValueError(
            "The optimiser steps none of the module's parameters: where a callback replaces module_ itself, it has to "
            "make the optimiser anew (net.initialize_optimizer()), or call net.set_params(module=...)."
        )

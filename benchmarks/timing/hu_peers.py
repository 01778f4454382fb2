"""A step of Hu et al. (2019) the ways it is written without products of gradients.

All take δ_i = −lr·∇f_i (the per-example loop: row i's whole Adam step, as the authors do), start at weight 0,
decay by 10 and normalise inside the batch, as ``weighting="hu"`` does by default.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from benchmarks.timing.loops import StepFunction
from benchmarks.timing.problems import LEARNING_RATE, Data

DECAY, FLOOR = 10.0, 1e-5


def _updated(stored: Tensor, rows: Tensor, gradient: Tensor) -> Tensor:
    """Store max(w/decay − ∂L_val/∂w, floor) and return it normalised."""
    new = (stored.index_select(0, rows) / DECAY - gradient).clamp(min=FLOOR)
    stored.index_copy_(0, rows, new)
    return new / new.sum()


def _weighted_step(module: nn.Module, optimizer: Optimizer, x: Tensor, targets: Tensor, w: Tensor) -> None:
    loss = torch.dot(w, cross_entropy(module(x), targets, reduction="none"))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def double_backward_func(data: Data, module: nn.Module, optimizer: Optimizer) -> StepFunction:
    """∂L_val(θ − lr·∇Σ w_i f_i)/∂w by torch.func.grad through torch.func.grad."""
    stored = torch.zeros(len(data.y), device=data.device)

    def losses(parameters: dict[str, Tensor], x: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(torch.func.functional_call(module, parameters, (x,)), targets, reduction="none")

    def step(x: Tensor, targets: Tensor, rows: Tensor) -> None:
        theta = {name: p.detach() for name, p in module.named_parameters()}

        def validation_loss(w: Tensor) -> Tensor:
            gradient = torch.func.grad(lambda parameters: torch.dot(w, losses(parameters, x, targets)))(theta)
            moved = {name: p - LEARNING_RATE * gradient[name] for name, p in theta.items()}
            return losses(moved, data.x_val, data.y_val).mean()

        gradient = torch.func.grad(validation_loss)(stored.index_select(0, rows))
        _weighted_step(module, optimizer, x, targets, _updated(stored, rows, gradient))

    return step


def double_backward_autograd(data: Data, module: nn.Module, optimizer: Optimizer) -> StepFunction:
    """The same by autograd with create_graph=True."""
    stored = torch.zeros(len(data.y), device=data.device)
    names = [name for name, _ in module.named_parameters()]
    parameters = list(module.parameters())

    def step(x: Tensor, targets: Tensor, rows: Tensor) -> None:
        w = stored.index_select(0, rows).requires_grad_()
        losses = cross_entropy(module(x), targets, reduction="none")
        gradients = torch.autograd.grad(torch.dot(w, losses), parameters, create_graph=True)
        moved = {n: p - LEARNING_RATE * g for n, p, g in zip(names, parameters, gradients, strict=True)}
        outputs = torch.func.functional_call(module, moved, (data.x_val,))
        (gradient,) = torch.autograd.grad(cross_entropy(outputs, data.y_val), w)
        _weighted_step(module, optimizer, x, targets, _updated(stored, rows, gradient))

    return step


def _step_on_rows_gradients(
    data: Data,
    module: nn.Module,
    optimizer: Optimizer,
    rows_gradients: Callable[[Tensor, Tensor], list[Tensor]],
) -> StepFunction:
    """A step on every row's own gradient, of shape (B, *parameter)."""
    stored = torch.zeros(len(data.y), device=data.device)
    twin = copy.deepcopy(module)
    parameters, moved = list(module.parameters()), list(twin.parameters())

    def step(x: Tensor, targets: Tensor, rows: Tensor) -> None:
        per_row = [g.flatten(1) for g in rows_gradients(x, targets)]
        w = stored.index_select(0, rows)
        with torch.no_grad():
            for p, q, g in zip(parameters, moved, per_row, strict=True):
                q.copy_(p - LEARNING_RATE * (w @ g).view_as(p))
        on_validation = torch.autograd.grad(cross_entropy(twin(data.x_val), data.y_val), moved)
        pulled = [g @ v.flatten() for g, v in zip(per_row, on_validation, strict=True)]
        weights = _updated(stored, rows, -LEARNING_RATE * torch.stack(pulled).sum(0))
        for p, g in zip(parameters, per_row, strict=True):
            p.grad = (weights @ g).view_as(p)
        optimizer.step()

    return step


def vmap_gradients(data: Data, module: nn.Module, optimizer: Optimizer) -> StepFunction:
    """Every row's gradient by torch.func.vmap over torch.func.grad."""

    def loss(parameters: dict[str, Tensor], x: Tensor, target: Tensor) -> Tensor:
        outputs = torch.func.functional_call(module, parameters, (x.unsqueeze(0),))
        return cross_entropy(outputs, target.unsqueeze(0))

    per_row = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def rows_gradients(x: Tensor, targets: Tensor) -> list[Tensor]:
        return list(per_row({n: p.detach() for n, p in module.named_parameters()}, x, targets).values())

    return _step_on_rows_gradients(data, module, optimizer, rows_gradients)


def backpack_gradients(data: Data, module: nn.Module, optimizer: Optimizer) -> StepFunction:
    """Every row's gradient by BackPACK's BatchGrad."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    # The twin that sees the validation rows is copied from the module before BackPACK hooks onto the latter.
    def rows_gradients(x: Tensor, targets: Tensor) -> list[Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with backpack(BatchGrad()):
            criterion(module(x), targets).backward()
        return [p.grad_batch for p in module.parameters()]  # type: ignore[attr-defined]

    step = _step_on_rows_gradients(data, module, optimizer, rows_gradients)
    extend(module.layers)
    criterion = extend(nn.CrossEntropyLoss(reduction="sum"))
    return step


def per_example_loop(data: Data, module: nn.Module, optimizer: Optimizer) -> StepFunction:
    """One forward pass, backward pass and optimiser step for every row, as the authors' code does it."""
    stored = torch.zeros(len(data.y), device=data.device)
    parameters = list(module.parameters())

    def step(x: Tensor, targets: Tensor, rows: Tensor) -> None:
        w = stored.index_select(0, rows).requires_grad_()
        moved = [p.detach() for p in parameters]
        for i in range(len(rows)):
            for k, delta in enumerate(_own_step(module, optimizer, x[i : i + 1], targets[i : i + 1])):
                moved[k] = moved[k] + w[i] * delta
        named = {n: q for (n, _), q in zip(module.named_parameters(), moved, strict=True)}
        outputs = torch.func.functional_call(module, named, (data.x_val,))
        (gradient,) = torch.autograd.grad(cross_entropy(outputs, data.y_val), w)
        _weighted_step(module, optimizer, x, targets, _updated(stored, rows, gradient))

    return step


def _own_step(module: nn.Module, optimizer: Optimizer, x: Tensor, target: Tensor) -> list[Tensor]:
    """What the optimiser would do on this row alone; network and optimiser stay as they are."""
    parameters: list[Tensor] = list(module.parameters())
    before = [p.detach().clone() for p in parameters]
    averages = [v for p in parameters for v in optimizer.state[p].values()]
    saved = [v.clone() for v in averages]
    optimizer.zero_grad(set_to_none=True)
    cross_entropy(module(x), target).backward()
    optimizer.step()
    with torch.no_grad():
        step = [p - old for p, old in zip(parameters, before, strict=True)]
        torch._foreach_copy_(parameters, before)
        if saved:
            torch._foreach_copy_(averages, saved)
        else:
            optimizer.state.clear()
    return step

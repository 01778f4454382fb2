"""Three networks trained at once, each with its own rows and numbers, are the three trained alone."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from skreweight._rows.batches import Batch
from skreweight._training.guard import FiniteGuard
from skreweight._training.members_guard import MembersGuard
from skreweight._training.step import TrainingStep
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.products import ProductsFinder
from skreweight.core.validation_loss import ValidationLoss
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS, NewState, Weighting, get_weighting

K, N_ROWS, N_FEATURES, N_CLASSES, BATCH, N_STEPS = 3, 60, 4, 3, 10, 6
BOUND = 1e-12

# Numbers of which each member has its own; those that default to None are in a case of their own.
PENALTY: dict[str, list[float]] = {"lp_norm": [2, 4, 3], "lp_coef": [0.1, 0.0, 0.01]}
HU: dict[str, list[float]] = {
    "initial_weight": [0.0, 0.5, 1.0],
    "decay": [10, 2, 1],
    "step_size": [1, 50, 10],
    "temperature": [1, 0.5, 2],
    "floor": [0.0, 1e-5, 0.1],
    **PENALTY,
}
NUMBERS: dict[str, dict[str, list[float]]] = {
    "none": {},
    "proportion": {"beta": [0.9, 0.99, 0.5]},
    "two-phase": PENALTY,
    "ren": PENALTY,
    "hu": HU,
    "ours": {
        **HU,
        "polyak": [0.1, 0.01, 1.0],
        "damping": [0.1, 1, 0.01],
        "constraint_step_size": [1, 0.1, 10],
    },
    "absgd": {"lam": [1, -2, 0.3], "gamma": [0.9, 0.1, 1], "alpha": [1, 0.5, 2], "max_jump": [100, 50, 1]},
    "term": {"t": [3, 0, -2], "tau": [0, -1, 5], "update": [0.1, 1, 0.5]},
    "top-loss": {"keep": [0.2, 1, 0.35]},
    "eg": {"eta": [-0.5, 0.3, 0], "decay": [1, 2, 1.5]},
    "meta": {
        "beta": [0.9999, 0.9, 0],
        "conditional_step": [10, 1, 100],
        "virtual_lr": [0.1, 1, 0.5],
        "floor": [0, 0.1, 0.2],
        "bound": [1, 0.5, 2],
        **PENALTY,
    },
    "meta-weight-net": {
        "net_lr": [0.01, 0.1, 0],
        "net_momentum": [0.9, 0, 0.5],
        "net_weight_decay": [1e-4, 0, 0.1],
        "virtual_lr": [0.1, 1, 0.5],
        **PENALTY,
    },
}
# What is no number is the same for all members.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "proportion": [{}, {"scheme": "effective-number"}],
    "hu": [{}, {"normalization": "softmax"}, {"virtual_step": "optimizer"}],
    "ours": [{}, {"n_constraint_steps": 3, "curvature": "identity"}],
    "absgd": [{}, {"correct_start": False, "add_uniform": True}],
    "term": [{}, {"correct_start": False}],
    "eg": [{}, {"keep_batch_mass": False, "update": "after"}],
    "meta": [{}, {"virtual_reduction": "sum"}],
    "meta-weight-net": [
        {"n_hidden": 7},
        {"n_hidden": 4, "net_optimizer": "sgd", "normalize": False},
        {"n_hidden": 4, "net_optimizer": "sgd", "net_nesterov": False, "through_loss": True},
    ],
}
# What these do, they do around the steps, which are plain ones: whole fits of them are in tests/test_packs.py.
AROUND_THE_STEPS = ("crt", "lws", "tau-norm", "logit-adjustment")
IN_STEPS = {name: kind for name, kind in WEIGHTINGS.items() if name not in AROUND_THE_STEPS}
CASES = [(name, variant) for name in IN_STEPS for variant in VARIANTS.get(name, [{}])]


def optimizer(kind: str, model: Model) -> torch.optim.Optimizer:
    if kind == "adam":
        return torch.optim.Adam(model.parameters, lr=0.02)
    return torch.optim.SGD(model.parameters, lr=0.2, momentum=0.9, weight_decay=1e-3)


class Training:
    """One network, or three, on their rows."""

    def __init__(self, members: range, weighting: Weighting, kind: str, multiplicity: Tensor | None) -> None:
        modules = []
        for k in members:
            torch.manual_seed(k)
            modules.append(MLP(N_FEATURES, N_CLASSES, (5,)).double())
        # What belongs to one network has no leading axis.
        self.which: Any = ... if len(modules) == K else members[0]
        model = Model(*modules)
        evaluation = model.evaluation()
        self.model, self.weighting = model, weighting
        x_val, y_val = table(6, seed=9)
        loss = ExampleLoss(torch.nn.CrossEntropyLoss(reduction="none"))
        stepper = optimizer(kind, model)
        penalty = {n: v for n, v in weighting.get_params().items() if n in PENALTY}
        lead = model.shape
        validation = ValidationLoss(
            evaluation, loss, x_val.expand(*lead, *x_val.shape), y_val.expand(*lead, -1), **penalty
        )
        guard = MembersGuard(model, stepper) if lead else FiniteGuard(model, stepper, "raise")
        self.step = TrainingStep(
            model,
            stepper,
            weighting,
            loss,
            guard,
            ProductsFinder(model),
            ProductsFinder(evaluation),
            validation,
            multiplicity=None if multiplicity is None else multiplicity[self.which],
            penalised=type(weighting) is WEIGHTINGS["two-phase"],
        )
        _, targets = table(N_ROWS, seed=3)
        counts = torch.nn.functional.one_hot(targets[rows_of_members()], N_CLASSES).sum(-2).double()
        weighting.start(NewState(N_ROWS, counts[self.which]))

    def run(self) -> list[Tensor]:
        """Take some steps; return the weights of each, the parameters and the state."""
        x, targets = table(N_ROWS, seed=3)
        found = []
        for number in range(N_STEPS):
            rows = rows_of_members().roll(-number * BATCH, -1)[self.which][..., :BATCH]
            outcome = self.step(Batch(rows, x[rows], targets[rows]))
            found += [outcome.weights, outcome.loss]
        state = self.weighting.state_dict().values()
        return [*found, *(p.detach() for p in self.model.parameters), *state]


def table(n_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    X = torch.randn(n_rows, N_FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return X, torch.arange(n_rows) ** 2 % 7 % N_CLASSES


def rows_of_members() -> Tensor:
    """Half of the rows for each member, in an order of its own, (K, N_ROWS/2)."""
    generator = torch.Generator().manual_seed(1)
    return torch.stack([torch.randperm(N_ROWS, generator=generator)[: N_ROWS // 2] for _ in range(K)])


def numbers_of(name: str) -> list[dict[str, float]]:
    return [{number: values[k] for number, values in NUMBERS.get(name, {}).items()} for k in range(K)]


def test_every_number_of_the_registry_is_tried() -> None:
    for name, kind in IN_STEPS.items():
        stacking = [f.name for f in fields(kind) if f.metadata["stacks"]] if kind().get_params() else []
        assert sorted(NUMBERS[name]) == sorted(stacking), name


@pytest.mark.parametrize("counted", [False, True], ids=["", "sample weights"])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_each_member_is_the_network_alone(
    name: str, variant: dict[str, Any], kind: str, counted: bool
) -> None:
    multiplicity = (
        torch.rand(K, N_ROWS, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.5
    )
    options = {"kind": kind, "multiplicity": multiplicity if counted else None}
    each = [get_weighting(name, **variant, **numbers) for numbers in numbers_of(name)]
    stacked = type(each[0]).stacked(each, torch.zeros((), dtype=torch.float64))
    together = Training(range(K), stacked, **options).run()
    alone = [Training(range(k, k + 1), each[k], **options).run() for k in range(K)]
    assert all(len(found) == len(together) for found in alone)
    for k, found in enumerate(alone):
        for ours, expected in zip(together, found, strict=True):
            assert ours[k].shape == expected.shape
            torch.testing.assert_close(ours[k], expected, rtol=BOUND, atol=BOUND)


@pytest.mark.parametrize("name", [name for name in IN_STEPS if NUMBERS.get(name)])
def test_whose_numbers_are_used_shows(name: str) -> None:
    """Else the comparison above would compare nothing: with the members' numbers exchanged they differ."""
    variant = VARIANTS.get(name, [{}])[-1]
    each = [get_weighting(name, **variant, **numbers) for numbers in numbers_of(name)]
    like = torch.zeros((), dtype=torch.float64)
    right, wrong = (
        Training(range(K), type(each[0]).stacked(members, like), "sgd", None).run()
        for members in (each, each[::-1])
    )
    for k in (0, 2):
        assert any(not torch.allclose(a[k], b[k], rtol=1e-6) for a, b in zip(right, wrong, strict=True))

"""Leading axes are members: whatever the core computes for a pack of three is what it computes for each alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from skreweight.core.constraint import constraint_step
from skreweight.core.curvature import diagonal
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.members import chosen, inner, over
from skreweight.core.model import Model
from skreweight.core.penalties import lp_penalty, lp_penalty_gradient
from skreweight.core.products import Products, ProductsFinder
from skreweight.core.random_state import Draws, SixteenBitDraws
from skreweight.core.rows import joined, take_rows
from skreweight.core.validation_loss import ValidationLoss
from skreweight.core.virtual_step import optimizer_step, sgd_step, weight_gradient
from skreweight.losses import LDAMLoss
from tests.cases import CASES, Case

K = 3
BOUND = 1e-12
# What torch.func.vmap, which runs K modules at once, cannot take.
NOT_AT_ONCE = {"gru", "lstm", "own function", "embedding"}

every_case = pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_AT_ONCE])
both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).detach().abs().max()) <= BOUND * max(
        1.0, float(expected.detach().abs().max())
    )


class Trio:
    """Three networks with parameters, rows and draws of their own: alone, and as one pack."""

    def __init__(self, case: Case, training: bool = True) -> None:
        self.case = case
        alone = [case.model(seed=k) for k in range(K)]
        pack = Model(*[case.model(seed=k).module for k in range(K)])
        pack.draws = Draws([torch.Generator().manual_seed(10 + k) for k in range(K)])
        for k, model in enumerate(alone):
            model.draws = Draws([torch.Generator().manual_seed(10 + k)])
            model.draws._filled = _one(model.draws)  # type: ignore[method-assign]
        self.alone = alone if training else [m.evaluation() for m in alone]
        self.pack = pack if training else pack.evaluation()
        x, y = case.batch()
        orders = [torch.arange(len(y)), torch.arange(len(y)).flip(0), torch.arange(len(y)).roll(2)]
        self.x, self.y = take_rows(x, torch.stack(orders)), y[torch.stack(orders)]
        self.w = torch.rand(K, len(y), generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def rows(self, k: int) -> tuple[Any, Tensor]:
        x = self.x[k] if isinstance(self.x, Tensor) else {name: v[k] for name, v in self.x.items()}
        return x, self.y[k]

    def products(self) -> tuple[Products, list[Products]]:
        loss = self.case.loss()
        pack = ProductsFinder(self.pack)(self.x, self.y, loss)
        return pack, [ProductsFinder(m)(*self.rows(k), loss) for k, m in enumerate(self.alone)]

    def validation(self, **options: Any) -> tuple[ValidationLoss, list[ValidationLoss]]:
        loss = self.case.loss()
        each = [
            {name: v[k].item() if isinstance(v, Tensor) else v for name, v in options.items()}
            for k in range(K)
        ]
        return (
            ValidationLoss(self.pack, loss, self.x, self.y, **options),
            [ValidationLoss(m, loss, *self.rows(k), **each[k]) for k, m in enumerate(self.alone)],
        )

    def assert_same(self, found: Sequence[Tensor], expected: list[Sequence[Tensor]]) -> None:
        for k, of_one in enumerate(expected):
            for a, b in zip(found, of_one, strict=True):
                assert a[k].shape == b.shape
                assert close(a[k], b)

    def directions(self) -> list[Tensor]:
        generator = torch.Generator().manual_seed(2)
        return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in self.pack.parameters]


def _one(draws: Draws) -> Callable[..., Tensor]:
    """One network's draws out of a generator of its own, to be compared with a member's."""

    def filled(like: Tensor, fill: Any) -> Tensor:
        out = torch.empty_like(like, memory_format=torch.contiguous_format)
        fill(out, draws.generators[0])
        return out

    return filled


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@both_modes
@every_case
def test_products(name: str, training: bool) -> None:
    if name in ("own parameter, dropout, batch norm",) and training:
        pytest.skip("torch's own dropout draws the masks of all members from one generator")
    trio = Trio(CASES[name], training)
    v = trio.directions()
    pack, alone = trio.products()
    trio.assert_same([pack.losses.detach()], [[p.losses.detach()] for p in alone])
    trio.assert_same(pack.weighted(trio.w), [p.weighted(trio.w[k]) for k, p in enumerate(alone)])
    trio.assert_same(pack.once(trio.w), [p.weighted(trio.w[k]) for k, p in enumerate(alone)])
    trio.assert_same([pack.project(v)], [[p.project([d[k] for d in v])] for k, p in enumerate(alone)])
    if pack.exact_squares:
        for kind in ("ggn", "fisher"):
            trio.assert_same(
                diagonal(kind, pack, trio.w), [diagonal(kind, p, trio.w[k]) for k, p in enumerate(alone)]
            )
    # BatchNorm's statistics after the passes.
    trio.assert_same(list(trio.pack.buffers.values()), [list(m.buffers.values()) for m in trio.alone])


@pytest.mark.parametrize("name", ["tanh", "relu, two classes", "own parameter", "batch norm"])
def test_hutchinson(name: str) -> None:
    trio = Trio(CASES[name], training=False)
    pack, alone = trio.products()
    expected = [diagonal("hessian", p, trio.w[k], n_probes=2) for k, p in enumerate(alone)]
    trio.assert_same(diagonal("hessian", pack, trio.w, n_probes=2), expected)


@pytest.mark.parametrize("name", ["own parameter", "batch norm of images"])
@pytest.mark.parametrize("kind", ["ggn", "fisher"])
def test_estimates_from_graphs_draw_for_each_member(name: str, kind: str) -> None:
    trio = Trio(CASES[name])
    pack, alone = trio.products()
    assert not pack.exact_squares
    expected = [diagonal(kind, p, trio.w[k], n_probes=3) for k, p in enumerate(alone)]
    trio.assert_same(diagonal(kind, pack, trio.w, n_probes=3), expected)


@pytest.mark.parametrize("name", ["tanh", "class weights", "focal", "one logit", "own parameter"])
def test_monte_carlo_curvature_draws_for_each_member(name: str) -> None:
    trio = Trio(CASES[name], training=False)
    pack, alone = trio.products()
    expected = [diagonal("ggn-mc", p, trio.w[k], n_probes=2) for k, p in enumerate(alone)]
    trio.assert_same(diagonal("ggn-mc", pack, trio.w, n_probes=2), expected)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@every_case
def test_validation_loss(name: str) -> None:
    trio = Trio(CASES[name])
    numbers = {
        "lp_norm": torch.tensor([[2.0], [4.0], [3.0]], dtype=torch.float64),
        "lp_coef": torch.tensor([[0.1], [0.0], [0.01]], dtype=torch.float64),
    }
    for options in ({}, {"lp_coef": 0.1}, numbers):
        pack, alone = trio.validation(**options)
        moved = [p.detach() + 0.1 * v for p, v in zip(trio.pack.parameters, trio.directions(), strict=True)]
        value, gradient = pack.value_and_gradient(moved)
        assert value.shape == (K, 1)
        assert close(pack.value(moved), value)
        expected = [a.value_and_gradient([p[k] for p in moved]) for k, a in enumerate(alone)]
        trio.assert_same([value, *gradient], [[loss, *slopes] for loss, slopes in expected])


def optimizer_of(kind: str, parameters: Any) -> torch.optim.Optimizer:
    if kind == "adam":
        return Adam(parameters, lr=0.01, weight_decay=0.1)
    momentum = {"momentum": 0.9, "weight_decay": 0.1} if kind == "momentum" else {}
    return SGD(parameters, lr=0.1, **momentum)


@pytest.mark.parametrize("name", ["tanh", "relu, two classes", "own parameter", "batch norm"])
@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_virtual_step(name: str, kind: str, batch_size: int | None) -> None:
    trio = Trio(CASES[name])
    pack, alone = trio.products()
    optimizers = [optimizer_of(kind, m.parameters) for m in [trio.pack, *trio.alone]]
    for step in range(2):  # the second one with momentum and averages
        slopes, each = pack.weighted(trio.w), [p.weighted(trio.w[k]) for k, p in enumerate(alone)]
        found = []
        for model, optimizer, products, gradient, weights, validation in zip(
            [trio.pack, *trio.alone],
            optimizers,
            [pack, *alone],
            [slopes, *each],
            [trio.w, *trio.w],
            [trio.validation()[0], *trio.validation()[1]],
            strict=True,
        ):
            virtual = sgd_step(products, optimizer) if kind == "sgd" else optimizer_step(products, optimizer)
            slope = weight_gradient(virtual, weights, validation, batch_size)
            found.append([*virtual.moved(weights), slope])
            if step == 0:
                for p, g in zip(model.parameters, gradient, strict=True):
                    p.grad = g
                optimizer.step()
        trio.assert_same(found[0], found[1:])
        pack, alone = trio.products()


@pytest.mark.parametrize(
    "name", ["tanh", "relu, two classes", "class weights", "own parameter", "batch norm"]
)
@pytest.mark.parametrize("curvature", ["ggn", "ggn-mc", "hessian", "fisher", "identity"])
@pytest.mark.parametrize("in_numbers", [False, True])
def test_constraint_step(name: str, curvature: str, in_numbers: bool) -> None:
    """With one step refused, one halted and numbers of each member's own."""
    trio = Trio(CASES[name], training=False)
    pack, alone = trio.products()
    validations = trio.validation(lp_coef=0.01)
    share = torch.tensor([[1.0], [0.5], [1.0]], dtype=torch.float64)
    halted = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
    numbers: dict[str, Any] = {"damping": 0.1, "polyak": 0.5, "step_size": None}
    if in_numbers:
        values = {"damping": [0.1, 1.0, 0.01], "polyak": [0.5, 50.0, 0.1], "step_size": [1.0, 1e-3, 10.0]}
        numbers = {n: torch.tensor(v, dtype=torch.float64).unsqueeze(-1) for n, v in values.items()}
    fixed: dict[str, Any] = {"multiplicity": None, "curvature": curvature, "n_probes": 1}
    expected = []
    for k, products in enumerate(alone):
        mine = {n: v[k].item() if isinstance(v, Tensor) else v for n, v in numbers.items()}
        step = constraint_step(
            products, trio.w[k], validations[1][k], share=share[k], halted=halted[k], **mine, **fixed
        )
        expected.append([*step, step.step_size, step.loss_after])
    step = constraint_step(pack, trio.w, validations[0], share=share, halted=halted, **numbers, **fixed)
    assert not step.taken[2]
    trio.assert_same(
        [t.double() for t in (*step, step.step_size, step.loss_after)],
        [[t.double() for t in e] for e in expected],
    )
    trio.assert_same(trio.pack.parameters, [m.parameters for m in trio.alone])


@pytest.mark.parametrize("name", ["tanh", "relu, two classes", "focal"])
def test_two_batches_in_one_pass(name: str) -> None:
    trio = Trio(CASES[name], training=False)
    pack_validation, validations = trio.validation(lp_coef=0.1)
    loss = trio.case.loss()
    pack, (value, slopes) = ProductsFinder(trio.pack).with_validation(trio.x, trio.y, loss, pack_validation)
    found = [pack.project(trio.directions()), value, *slopes, *pack.weighted(trio.w)]
    expected = []
    for k, model in enumerate(trio.alone):
        one, (loss_k, slopes_k) = ProductsFinder(model).with_validation(*trio.rows(k), loss, validations[k])
        v = [d[k] for d in trio.directions()]
        expected.append([one.project(v), loss_k, *slopes_k, *one.weighted(trio.w[k])])
    trio.assert_same(found, expected)


def test_class_weights_and_class_counts_of_each_member() -> None:
    """Members that train on other rows have other class counts; criteria that hold them are called one by one."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(K, 6, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (K, 6), generator=generator)
    scale = torch.rand(K, 3, generator=generator, dtype=torch.float64)
    counts = [[9.0, 5, 2], [8, 4, 4], [9, 6, 1]]
    for criteria in (
        [nn.CrossEntropyLoss(reduction="none") for _ in range(K)],
        [LDAMLoss(c, reduction="none").double() for c in counts],
    ):
        pack = ExampleLoss(criteria, scale)
        assert len(pack.criteria) == (1 if isinstance(criteria[0], nn.CrossEntropyLoss) else K)
        for k, criterion in enumerate(criteria):
            alone = ExampleLoss(criterion, scale[k])
            assert close(pack(z, y)[k], alone(z[k], y[k]))
            assert close(pack.output_gradient(z, y)[k], alone.output_gradient(z[k], y[k]))
            product = [torch.einsum("r...bi,r...bj->...bij", f, f) for f in
                       (pack.hessian_factor(z, y)[:, k], alone.hessian_factor(z[k], y[k]))]  # fmt: skip
            assert close(*product)


class TestModel:
    def test_stacks_and_gives_back(self) -> None:
        case = CASES["own parameter, dropout, batch norm"]
        modules = [case.model(seed=k).module for k in range(K)]
        pack = Model(*modules)
        assert pack.shape == (K,)
        assert pack.names == [n for n, _ in modules[0].named_parameters()]
        with torch.no_grad():
            for p in pack.parameters:
                p.add_(1.0)
        for k, module in enumerate(modules):
            before = module.state_dict()["0.weight"].clone()
            given = pack.member(k)
            assert given is module
            assert torch.equal(module.state_dict()["0.weight"], before + 1)

    def test_repeats_members(self) -> None:
        pack = Model(*[CASES["batch norm"].model(seed=k).module for k in range(K)])
        repeated = pack.repeat(torch.tensor([2, 0, 0, 1]))
        assert repeated.shape == (4,)
        for a, b in zip(repeated.parameters, pack.parameters, strict=True):
            assert torch.equal(a, b[[2, 0, 0, 1]])
            assert a.is_leaf
        x = torch.randn(6, 4, dtype=torch.float64)
        assert torch.equal(
            repeated.evaluation()(x.expand(4, 6, 4))[2], pack.evaluation()(x.expand(K, 6, 4))[0]
        )

    def test_frozen_parameters_stay_each_members_own(self) -> None:
        trio = Trio(CASES["frozen layers"])
        outputs = trio.pack(trio.x)
        for k, model in enumerate(trio.alone):
            assert close(outputs[k], model(trio.rows(k)[0]))


class TestDraws:
    @pytest.mark.parametrize("draw", [
        lambda d: d.kept(torch.empty(7, 5), 0.3), lambda d: d.signs(torch.empty(40)),
        lambda d: d.integers(9, 5, torch.device("cpu")),
    ])  # fmt: skip
    def test_a_member_draws_what_the_global_generator_would(self, draw: Callable[[Draws], Tensor]) -> None:
        shape = {"kept": (K, 7, 5), "signs": (K, 40)}
        generators = [torch.Generator().manual_seed(k) for k in range(K)]
        like = draw(Draws())
        pack = Draws(generators)
        together = (
            pack.integers(9, 5, torch.device("cpu")) if like.dtype == torch.int64 else
            pack.kept(torch.empty(shape["kept"]), 0.3) if like.dim() == 2 else pack.signs(torch.empty(shape["signs"]))
        )  # fmt: skip
        for k in range(K):
            with torch.random.fork_rng([]):
                torch.manual_seed(k)
                assert torch.equal(together[k], draw(Draws()))

    def test_masks_are_those_of_torchs_dropout(self) -> None:
        x = torch.ones(50, 20)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            expected = nn.functional.dropout(x, 0.3)
            torch.manual_seed(0)
            assert torch.equal(Draws().kept(x, 0.7).div_(0.7), expected)


class TestSixteenBitDraws:
    """Masks of a pack that no network alone is compared with."""

    @staticmethod
    def drawn(probability: float, shape: tuple[int, ...], n_members: int = K) -> Tensor:
        generators = [torch.Generator().manual_seed(k) for k in range(n_members)]
        return SixteenBitDraws(generators).kept(torch.empty(shape, dtype=torch.float64), probability)

    @pytest.mark.parametrize("shape", [(K, 7, 5), (K, 4, 4), (K, 1)])
    def test_a_figure_is_kept_where_its_sixteen_bits_are_low(self, shape: tuple[int, ...]) -> None:
        found = self.drawn(0.85, shape)
        assert found.shape == shape and found.dtype == torch.float64
        for k, mask in enumerate(found):
            generator, n = torch.Generator().manual_seed(k), mask.numel()
            words = [int(torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator))
                     for _ in range(-(-n // 4))]  # fmt: skip
            bits = np.array(words, dtype=np.int64).view(np.int16)[:n].astype(int) + 2**15
            assert mask.flatten().tolist() == (bits < round(0.85 * 2**16)).astype(float).tolist()

    @pytest.mark.parametrize("probability", [0.0, 1e-3, 0.15, 0.5, 0.85, 1 - 1e-6])
    def test_the_share_that_is_kept(self, probability: float) -> None:
        n = 400_000
        share = self.drawn(probability, (2, n // 2), n_members=2).mean().item()
        assert abs(share - probability) <= 5 * (probability * (1 - probability) / n) ** 0.5 + 2**-16

    def test_figures_and_members_know_nothing_of_each_other(self) -> None:
        masks = self.drawn(0.5, (3, 100_000), n_members=3) - 0.5
        for pair in [
            (masks[0], masks[1]),
            (masks[1], masks[2]),
            *((masks[0, :-k], masks[0, k:]) for k in range(1, 9)),
        ]:
            assert abs(4 * (pair[0] * pair[1]).mean().item()) < 5 / 99_000**0.5

    def test_one_network(self) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            alone = SixteenBitDraws().kept(torch.empty(7, 5, dtype=torch.float64), 0.85)
        assert torch.equal(alone, self.drawn(0.85, (1, 7, 5), n_members=1)[0])


class TestArithmetic:
    def test_inner(self) -> None:
        a = [torch.randn(K, 2, 3), torch.randn(K)]
        b = [torch.randn(K, 2, 3), torch.randn(K)]
        expected = [sum(float((x[k] * y[k]).sum()) for x, y in zip(a, b, strict=True)) for k in range(K)]
        assert inner(a, b, 1).flatten().tolist() == pytest.approx(expected, rel=1e-5)
        assert inner([x[0] for x in a], [y[0] for y in b], 0).tolist() == pytest.approx(
            expected[:1], rel=1e-5
        )

    def test_over_and_chosen(self) -> None:
        flag = torch.tensor([[True], [False], [True]])
        first, second = [torch.ones(K, 2, 2), torch.ones(K)], [torch.zeros(K, 2, 2), torch.zeros(K)]
        taken = chosen(flag, first, second)
        assert taken[0][:, 0, 0].tolist() == taken[1].tolist() == [1.0, 0.0, 1.0]
        assert over(torch.ones(1), torch.ones(())).shape == ()
        assert over(torch.ones(1), torch.ones(4, 2)).shape == (1, 1)

    def test_penalty_with_numbers_of_each_member(self) -> None:
        parameters = [torch.randn(K, 2, 3, dtype=torch.float64), torch.randn(K, dtype=torch.float64)]
        norm = torch.tensor([[2.0], [4.0], [1.5]], dtype=torch.float64)
        value, slopes = lp_penalty(parameters, norm, 1), lp_penalty_gradient(parameters, norm)
        for k in range(K):
            mine = [p[k] for p in parameters]
            assert close(value[k], lp_penalty(mine, norm[k].item()))
            for a, b in zip(slopes, lp_penalty_gradient(mine, norm[k].item()), strict=True):
                assert close(a[k], b)

    def test_rows(self) -> None:
        x = torch.arange(20.0).view(10, 2)
        rows = torch.tensor([[0, 3], [9, 9], [1, 2]])
        assert torch.equal(take_rows(x, rows), x[rows])
        assert torch.equal(take_rows({"a": x}, rows)["a"], x[rows])
        shared = joined(x[rows], x[:3], 1)
        assert shared.shape == (3, 5, 2)
        assert torch.equal(shared[1, 2:], x[:3])

"""F w, Fᵀv and sums of squares on every path, against a materialised F."""

import pytest
import torch
from torch import Tensor, nn

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.graph_products import GraphProducts
from skreweight.core.model import Model
from skreweight.core.products import Products, ProductsFinder
from skreweight.core.signal_products import SignalProducts, SignalRecorder, agrees
from tests.cases import CASES, Case
from tests.core import oracles
from tests.core.oracles import difference, flat, random_direction

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
BOUND = 1e-11
# Sums of a few dozen products in float32; relative to the largest entry.
FLOAT32_BOUND = 2e-5


def weights(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([0.3, 0.0, 1.2, 0.05, 2.0, 0.4], dtype=dtype)


def in_mode(model: Model, training: bool) -> Model:
    return model if training else model.evaluation()


def chosen_products(case: Case, model, training: bool, dtype=torch.float64) -> Products:
    """The products that a training step works with, drawn with the oracle's random state."""
    x, y = case.batch(dtype)
    finder = ProductsFinder(in_mode(model, training))
    with model.untouched():
        finder(x, y, case.loss(dtype))  # finds the way
    torch.manual_seed(oracles.SEED)
    return finder(x, y, case.loss(dtype))


def path_of(gradients: Products) -> str:
    if isinstance(gradients, SignalProducts):
        return "signals"
    assert isinstance(gradients, GraphProducts)
    return "forward" if gradients._forward_mode else "backward"


@both_modes
@every_case
class TestEveryCase:
    def test_takes_the_path_it_should(self, case: Case, training: bool) -> None:
        gradients = chosen_products(case, case.model(), training)
        assert path_of(gradients) == case.path_when(training)

    def test_products(self, case: Case, training: bool) -> None:
        model = case.model()
        gradients = chosen_products(case, model, training)
        twin = in_mode(case.model(), training)  # the oracle's passes move the statistics of BatchNorm
        F = oracles.row_gradients(twin, *case.batch(), case.loss())
        v = random_direction(model)
        _, losses = oracles.forward(twin, *case.batch(), case.loss())
        # NTP layers are one fused operation in a chain, which rounds otherwise.
        bound = 1e-14 if "NTPLinear" in str(model.module) else 0.0
        torch.testing.assert_close(gradients.losses, losses, rtol=bound, atol=bound)
        for w in (weights(), -weights().flip(0)):
            assert difference(flat(gradients.weighted(w)), F @ w) < BOUND
            assert difference(flat(gradients.once(w)), F @ w) < BOUND
        assert difference(gradients.project(v), F.mT @ flat(v)) < BOUND
        assert difference(gradients.project(v), F.mT @ flat(v)) < BOUND, "a second time"

    def test_float32(self, case: Case, training: bool) -> None:
        model = case.model(torch.float32)
        gradients = chosen_products(case, model, training, torch.float32)
        double = in_mode(case.model(), training)
        F = oracles.row_gradients(double, *case.batch(), case.loss())
        v = random_direction(double)
        found = flat(gradients.weighted(weights(torch.float32))).double()
        if "dropout" in str(model.module).lower() and training:
            return  # other masks than in float64
        assert difference(found, F @ weights()) < FLOAT32_BOUND
        assert difference(gradients.project([t.float() for t in v]).double(), F.mT @ flat(v)) < FLOAT32_BOUND

    def test_without_forward_mode(self, case: Case, training: bool) -> None:
        """Double backward is right for every network, not only where it is needed."""
        model = in_mode(case.model(), training)
        x, y = case.batch()
        F = oracles.row_gradients(model, x, y, case.loss())
        torch.manual_seed(oracles.SEED)
        gradients = GraphProducts(model, x, y, case.loss(), forward_mode=False)
        v = random_direction(model)
        for _ in range(2):
            assert difference(gradients.project(v), F.mT @ flat(v)) < BOUND
            assert difference(flat(gradients.weighted(weights())), F @ weights()) < BOUND

    def test_squares_from_signals_are_exact(self, case: Case, training: bool) -> None:
        gradients = chosen_products(case, case.model(), training)
        if not gradients.exact_squares:
            pytest.skip("an estimate: see test_curvature")
        F = oracles.row_gradients(gradients.model, *case.batch(), case.loss())
        z = gradients.outputs.detach().requires_grad_()
        (cotangent,) = torch.autograd.grad(gradients.loss(z, gradients.targets).sum(), z)
        found = flat(gradients.squares(cotangent.unsqueeze(0), weights()))
        assert difference(found, F.square() @ weights()) < BOUND


class TestAgrees:
    """What decides whether the closed formulas may be used refuses them where they are wrong."""

    def complete_and_agreeing(self, module: nn.Module) -> tuple[bool, bool]:
        case = Case(lambda: module)
        model, (x, y) = case.model(), case.batch()
        recorder = SignalRecorder(model)
        # Only complete recorders are asked, as in training; older torch raises for one that has recorded nothing.
        return recorder.complete, recorder.complete and agrees(recorder, x[:4], y[:4], case.loss())

    @pytest.mark.parametrize("name", ["weight behind the layer's back", "rows that mix"])
    def test_refuses_what_the_layers_do_not_show(self, name: str) -> None:
        assert self.complete_and_agreeing(CASES[name].module()) == (True, False)

    @pytest.mark.parametrize("name", ["own parameter", "weight norm", "reflecting convolution"])
    def test_sees_parameters_outside_of_its_layers(self, name: str) -> None:
        assert self.complete_and_agreeing(CASES[name].module())[0] is False

    def test_accepts_what_is_right(self) -> None:
        assert self.complete_and_agreeing(CASES["tanh"].module()) == (True, True)

    def test_refuses_a_subclass_with_another_forward(self) -> None:
        class Doubling(nn.Linear):
            def forward(self, input: Tensor) -> Tensor:
                return 2 * super().forward(input)

        assert self.complete_and_agreeing(nn.Sequential(Doubling(4, 3)))[0] is False

    def test_a_hook_that_replaces_a_layers_output(self) -> None:
        module = nn.Sequential(nn.Linear(4, 3))
        module[0].register_forward_hook(lambda module, args, output: output**2)
        case = Case(lambda: module)
        model = case.model()
        gradients = chosen_products(case, model, True)
        F = oracles.row_gradients(model, *case.batch(), case.loss())
        assert difference(flat(gradients.weighted(weights())), F @ weights()) < BOUND

    def test_refuses_positions_in_front_of_the_rows(self) -> None:
        class PositionsFirst(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(2, 3)

            def forward(self, X: Tensor) -> Tensor:
                return torch.tanh(self.layer(X.view(-1, 2, 2).transpose(0, 1))).mean(0)

        assert self.complete_and_agreeing(PositionsFirst()) == (True, False)

    def test_leaves_buffers_and_random_state_alone(self) -> None:
        case = CASES["own parameter, dropout, batch norm"]
        model, (x, y) = case.model(), case.batch()
        before, buffers = torch.get_rng_state(), [b.clone() for b in model.module.buffers()]
        agrees(SignalRecorder(model), x, y, case.loss())
        ProductsFinder(model)._find(x, y, case.loss())
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(b, old) for b, old in zip(model.module.buffers(), buffers, strict=True))


def test_nothing_stays_on_the_module() -> None:
    model = CASES["relu"].model()
    kept = [set(module.__dict__) for module in model.module.modules()]
    gradients = chosen_products(CASES["relu"], model, True)
    gradients.project(random_direction(model))
    assert [set(module.__dict__) for module in model.module.modules()] == kept
    assert not any(module._forward_hooks for module in model.module.modules())


@pytest.mark.parametrize("between", [nn.Tanh(), nn.LayerNorm(5)], ids=["chain", "graph"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_two_batches_in_one_pass(n_classes: int, between: nn.Module) -> None:
    """Each batch has the products that it has alone, with its own class weights."""
    generator = torch.Generator().manual_seed(0)
    draw = {"generator": generator, "dtype": torch.float64}
    module = nn.Sequential(nn.Linear(4, 5), between, nn.Linear(5, n_classes)).double()
    recorder = SignalRecorder(Model(module))
    batches = [
        (torch.randn(n, 4, **draw), torch.arange(n) % n_classes, loss)
        for n, loss in (
            (
                7,
                ExampleLoss(
                    nn.CrossEntropyLoss(reduction="none"), torch.linspace(1.0, 3.0, n_classes).double()
                ),
            ),
            (4, ExampleLoss(nn.CrossEntropyLoss(reduction="none"))),
        )
    ]
    direction = [torch.randn(p.shape, **draw) for p in module.parameters()]
    for together, (x, y, loss) in zip(recorder.together(*batches), batches, strict=True):
        alone = recorder(x, y, loss)
        w = torch.rand(len(y), **draw)
        assert torch.allclose(together.project(direction), alone.project(direction), rtol=1e-12, atol=1e-14)
        for product in ("weighted", "gauss_newton", "fisher"):
            for a, b in zip(getattr(together, product)(w), getattr(alone, product)(w), strict=True):
                assert torch.allclose(a, b, rtol=1e-12, atol=1e-14)

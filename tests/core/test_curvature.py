"""Every curvature against a Hessian, or a Gauss-Newton or Fisher matrix, formed entry by entry."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skreweight.core.curvature import CURVATURES, MAX_CLASSES_EXACT, diagonal
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.graph_products import GraphProducts
from skreweight.core.model import Model
from skreweight.core.products import ProductsFinder
from skreweight.core.signal_products import SignalProducts
from tests.cases import CASES, Case
from tests.core import oracles
from tests.core.oracles import difference, flat
from tests.core.test_gradients import chosen_products, weights

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
both_modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
BOUND = 1e-11
N_DRAWS = 300


def exact_diagonal(kind: str, model: Model, case: Case) -> Tensor:
    arguments = (model, *case.batch(), case.loss())
    if kind == "ggn":
        return oracles.gauss_newton_diagonal(*arguments, weights())
    if kind == "fisher":
        return oracles.row_gradients(*arguments).square() @ weights()
    return oracles.hessian(*arguments, weights()).diagonal()


def assert_mean_is(draws: Tensor, expected: Tensor) -> None:
    """The mean of independent draws, within six standard errors of every entry."""
    error = draws.std(0) / len(draws) ** 0.5
    excess = (draws.mean(0) - expected).abs() - 6 * error
    assert excess.max() < 1e-9 * expected.abs().max()
    # The bound means something: it is small beside what it is about.
    assert error.norm() < 0.5 * expected.norm()


@both_modes
@every_case
@pytest.mark.parametrize("kind", ["ggn", "fisher"])
def test_exact_from_signals(kind: str, case: Case, training: bool) -> None:
    model = case.model()
    gradients = chosen_products(case, model, training)
    if not isinstance(gradients, SignalProducts):
        pytest.skip("an estimate: see the mean of its draws")
    assert (
        difference(flat(diagonal(kind, gradients, weights())), exact_diagonal(kind, gradients.model, case))
        < BOUND
    )


@pytest.mark.parametrize(
    "name", ["own parameter", "batch norm", "one logit", "rows that mix", "own function"]
)
@pytest.mark.parametrize("kind", ["ggn", "fisher"])
def test_unbiased_from_graphs(kind: str, name: str) -> None:
    case = CASES[name]
    model = case.model()
    x, y = case.batch()
    gradients = GraphProducts(model, x, y, case.loss(), forward_mode=False)
    draws = torch.stack([flat(diagonal(kind, gradients, weights())) for _ in range(N_DRAWS)])
    if name == "rows that mix" and kind == "fisher":
        # Σ_i w_i (J_iᵀ c_i)² with J_i the Jacobian of row i's outputs: the gradient of f_i alone.
        expected = oracles.row_gradients(model, x, y, case.loss()).square() @ weights()
    else:
        expected = exact_diagonal(kind, model, case)
    assert_mean_is(draws, expected)
    averaged = flat(diagonal(kind, gradients, weights(), n_probes=N_DRAWS))
    assert difference(averaged, expected) < 0.5


@pytest.mark.parametrize(
    "name",
    ["tanh", "convolutions", "class weights", "focal", "relu, two classes", "own parameter", "one logit"],
)
def test_monte_carlo_is_unbiased(name: str) -> None:
    case = CASES[name]
    model = case.model()
    products = chosen_products(case, model, False)
    draws = torch.stack([flat(diagonal("ggn-mc", products, weights())) for _ in range(3 * N_DRAWS)])
    assert draws.dtype == torch.float64
    expected = exact_diagonal("ggn", products.model, case)
    if name == "one logit":  # one column with one sign, whose square is 1: exact
        assert difference(draws[0], expected) < BOUND
        return
    assert draws.std(0).max() > 0
    assert_mean_is(draws, expected)
    averaged = flat(diagonal("ggn-mc", products, weights(), n_probes=N_DRAWS))
    assert difference(averaged, expected) < 0.5


def of_classes(n_classes: int) -> SignalProducts:
    """Products of a small network with that many outputs."""
    torch.manual_seed(0)
    model = Model(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, n_classes)).double()).evaluation()
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.arange(6) % n_classes
    products = ProductsFinder(model)(x, y, ExampleLoss(nn.CrossEntropyLoss(reduction="none")))
    assert isinstance(products, SignalProducts)
    return products


def test_monte_carlo_of_many_classes_is_unbiased() -> None:
    products = of_classes(40)
    draws = torch.stack([flat(diagonal("ggn-mc", products, weights())) for _ in range(10 * N_DRAWS)])
    assert_mean_is(draws, flat(diagonal("ggn", products, weights())))


@pytest.mark.parametrize("n_classes", [3, MAX_CLASSES_EXACT, MAX_CLASSES_EXACT + 1, 300])
def test_backpropagations_of_auto_are_bounded(n_classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    products = of_classes(n_classes)
    recorded, signals_of = [], products.recorded.backpropagated_all

    def counted(cotangents: Tensor) -> Any:
        recorded.append(len(cotangents))
        return signals_of(cotangents)

    monkeypatch.setattr(products.recorded, "backpropagated_all", counted)
    state = torch.get_rng_state()
    found = flat(diagonal("auto", products, weights()))
    is_exact = n_classes <= MAX_CLASSES_EXACT
    assert recorded == [n_classes - 1 if is_exact else 1]
    # Up to the bound it is the exact one bit for bit, and draws nothing.
    assert torch.equal(state, torch.get_rng_state()) == is_exact
    assert torch.equal(found, flat(diagonal("ggn", products, weights()))) == is_exact
    torch.set_rng_state(state)
    assert torch.equal(found, flat(diagonal("ggn-mc", products, weights()))) != is_exact


@pytest.mark.parametrize(
    "name", ["tanh", "convolutions", "dropout", "embedding", "own parameter", "batch norm"]
)
def test_hutchinson_is_unbiased(name: str) -> None:
    case = CASES[name]
    model = case.model()
    gradients = chosen_products(case, model, True)
    exact = exact_diagonal("hessian", model, case)
    generator = torch.manual_seed(0)
    draws = []
    H = oracles.hessian(model, *case.batch(), case.loss(), weights())
    for _ in range(20):
        state = torch.get_rng_state()
        found = flat(diagonal("hessian", gradients, weights()))
        torch.set_rng_state(state)
        signs = torch.cat([torch.empty_like(p).bernoulli_(0.5).flatten() * 2 - 1 for p in model.parameters])
        # One draw is |ε∘Hε| …
        assert difference(found, (signs * (H @ signs)).abs()) < 1e-10
        draws.append(signs * (H @ signs))
    assert generator is torch.default_generator
    # … and its mean over the signs is the diagonal, exactly: all other terms are products of two signs.
    torch.set_rng_state(torch.manual_seed(1).get_state())
    found = flat(diagonal("hessian", gradients, weights(), n_probes=400))
    spread = (H.square().sum(1) - H.diagonal().square()).sqrt() / 400**0.5
    assert ((found - exact.abs()).abs() <= 6 * spread + 1e-9).all()


@both_modes
@every_case
def test_gauss_newton_is_the_hessian_of_piecewise_linear_networks(case: Case, training: bool) -> None:
    if not case.piecewise_linear:
        pytest.skip("not piecewise linear")
    model = case.model()
    gradients = chosen_products(case, model, training)
    exact = exact_diagonal("hessian", gradients.model, case)
    assert (exact > -1e-12).all()
    assert difference(flat(diagonal("ggn", gradients, weights())), exact) < BOUND


class TestDiagonalHessian:
    """One logit a row, read from a table: the Hessian is diagonal, and known in closed form."""

    rows = torch.tensor([0, 1, 2, 1, 3, 3])
    y = torch.tensor([0, 1, 1, 0, 1, 0])

    def gradients(self) -> GraphProducts:
        table = nn.Embedding(4, 1).double()
        with torch.no_grad():
            table.weight.copy_(torch.tensor([[0.3], [-1.0], [2.0], [0.5]], dtype=torch.float64))
        model = Model(nn.Sequential(table, nn.Flatten(0)))
        return GraphProducts(model, self.rows, self.y, CASES["one logit"].loss())

    def expected(self) -> Tensor:
        p = torch.sigmoid(torch.tensor([0.3, -1.0, 2.0, 0.5], dtype=torch.float64))
        share = torch.zeros(4, dtype=torch.float64).index_add(0, self.rows, weights())
        return share * p * (1 - p)

    def test_one_draw_of_hutchinson_is_exact(self) -> None:
        assert difference(flat(diagonal("hessian", self.gradients(), weights())), self.expected()) < BOUND

    def test_gauss_newton(self) -> None:
        model = self.gradients().model
        exact = oracles.gauss_newton_diagonal(model, self.rows, self.y, self.gradients().loss, weights())
        assert difference(exact, self.expected()) < BOUND


def test_identity() -> None:
    gradients = chosen_products(CASES["tanh"], CASES["tanh"].model(), True)
    assert torch.equal(flat(diagonal("identity", gradients, weights())), torch.ones(43, dtype=torch.float64))


@pytest.mark.parametrize("kind", CURVATURES)
def test_never_negative_and_zero_without_weights(kind: str) -> None:
    for name in ("focal", "own parameter"):
        gradients = chosen_products(CASES[name], CASES[name].model(), True)
        assert (flat(diagonal(kind, gradients, weights())) >= 0).all()
        nothing = flat(diagonal(kind, gradients, torch.zeros_like(weights())))
        assert kind == "identity" or not nothing.any()

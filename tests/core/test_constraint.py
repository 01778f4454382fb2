"""One step of learning with a constraint against eq. 7 to 9 written out, and its promise kept."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from skreweight.core.constraint import ConstraintStep, constraint_step
from skreweight.core.curvature import CURVATURES
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.graph_products import GraphProducts
from skreweight.core.model import Model
from skreweight.core.signal_products import SignalRecorder
from skreweight.core.validation_loss import ValidationLoss
from tests.cases import CASES, Case, numbers
from tests.core import oracles
from tests.core.oracles import difference, flat
from tests.core.test_gradients import chosen_products

BOUND = 1e-10
W = torch.tensor([0.3, 0.1, 0.25, 0.05, 0.2, 0.1], dtype=torch.float64)
OPTIONS: dict[str, Any] = {
    "multiplicity": None,
    "curvature": "ggn",
    "damping": 1e-2,
    "n_probes": 1,
    "step_size": None,
    "polyak": 0.1,
    "share": None,
}


def other_rows(case: Case) -> tuple[Any, Tensor]:
    """Validation rows: those of the case in another order, shifted."""
    x, y = case.batch()
    return (x.flip(0) + 0.1, y.flip(0)) if isinstance(x, Tensor) and x.is_floating_point() else (x, y)


def diagonal_of(kind: str, model: Model, case: Case, weights: Tensor) -> Tensor:
    arguments = (model, *case.batch(), case.loss())
    if kind == "identity":
        return torch.ones(sum(p.numel() for p in model.parameters), dtype=torch.float64)
    if kind == "fisher":
        return oracles.row_gradients(*arguments).square() @ weights
    return oracles.gauss_newton_diagonal(*arguments, weights)


@pytest.mark.parametrize(
    "name",
    ["tanh", "relu, two classes", "convolutions", "dropout", "tied weights", "class weights", "batch norm"],
)
@pytest.mark.parametrize("curvature", ["ggn", "fisher", "identity"])
@pytest.mark.parametrize("sizes", [{"step_size": 1e-4, "polyak": None}, {"polyak": 0.3}, {"step_size": 1e3}])
def test_against_the_equations(name: str, curvature: str, sizes: dict[str, Any]) -> None:
    case = CASES[name]
    model = case.model()
    validation = ValidationLoss(model, case.loss(), *other_rows(case), lp_norm=4, lp_coef=0.01)
    gradients = chosen_products(case, model, False)
    F = oracles.row_gradients(gradients.model, *case.batch(), case.loss())
    h = 1 / (diagonal_of(curvature, gradients.model, case, W) + 1e-2)
    theta = flat(model.parameters)
    loss, slope = validation.value_and_gradient(model.parameters)
    u = F.mT @ (h * flat(slope))
    options = {**OPTIONS, "curvature": curvature, **sizes}
    eta = options["step_size"] or torch.inf
    if options["polyak"]:
        eta = min(eta, options["polyak"] * loss / (u @ u))
    step = constraint_step(gradients, W, validation, **options)
    assert difference(step.weight_change, eta * u) < BOUND
    assert float(step.step_size) == pytest.approx(float(eta), rel=1e-10)
    assert difference(flat(model.parameters) - theta, -h * (F @ (eta * u))) < 1e-9
    assert float(step.loss_before) == float(loss)
    assert float(step.loss_after) == float(validation.value(model.parameters))


def test_rows_that_count_twice_are_two_rows() -> None:
    """u, the move and the Polyak cap of rows with multiplicities are those of a batch that repeats them."""
    case = CASES["tanh"]
    x, y = case.batch()
    multiplicity = torch.tensor([1, 2, 0, 3, 1, 1], dtype=torch.float64)
    repeated = torch.arange(6).repeat_interleave(multiplicity.long())
    moved = []
    for rows, weights, counts in (
        (torch.arange(6), W * multiplicity, multiplicity),
        (repeated, W[repeated], None),
    ):
        model = case.model()
        validation = ValidationLoss(model, case.loss(), *other_rows(case))
        gradients = SignalRecorder(model)(x[rows], y[rows], case.loss())
        step = constraint_step(gradients, weights, validation, **{**OPTIONS, "multiplicity": counts})
        change = torch.zeros(6, dtype=torch.float64)
        change[rows] = step.weight_change
        moved.append((flat(model.parameters), change[multiplicity > 0], step.step_size))
    for with_counts, with_repeats in zip(*moved, strict=True):
        assert difference(with_counts, with_repeats) < BOUND


class TestDiagonalHessian:
    """Where the Hessian is diagonal the method is exact: eq. 6 and 7 against finite differences.

    Row i's loss depends on one entry of a table: F(θ)w = c then determines θ(w) entry by entry.
    """

    rows = torch.tensor([0, 1, 2, 1, 3, 3])
    y = torch.tensor([0, 1, 1, 0, 1, 0])
    # Every entry has rows of both classes or a small weight, so that c is in reach on both sides.
    start = torch.tensor([[0.3], [-1.0], [2.0], [0.5]], dtype=torch.float64)

    def problem(self) -> tuple[Model, GraphProducts, ValidationLoss]:
        table = nn.Embedding(4, 1).double()
        with torch.no_grad():
            table.weight.copy_(self.start)
        model = Model(nn.Sequential(table, nn.Flatten(0)))
        loss = CASES["one logit"].loss()
        validation = ValidationLoss(model, loss, torch.arange(4), torch.tensor([1, 0, 0, 1]))
        return model, GraphProducts(model, self.rows, self.y, loss), validation

    def slopes(self, theta: Tensor) -> Tensor:
        """∇f_i in its own entry."""
        return torch.sigmoid(theta[self.rows]) - self.y

    def constrained(self, w: Tensor, c: Tensor) -> Tensor:
        """θ with F(θ)w = c (eq. 6), by Newton's method entry by entry."""
        theta = self.start.flatten().clone()
        for _ in range(50):
            p = torch.sigmoid(theta[self.rows])
            excess = torch.zeros(4, dtype=torch.float64).index_add(0, self.rows, w * (p - self.y)) - c
            curvature = torch.zeros(4, dtype=torch.float64).index_add(0, self.rows, w * p * (1 - p))
            theta = theta - excess / curvature
        assert excess.abs().max() < 1e-14
        return theta

    @pytest.mark.parametrize("curvature", ["ggn", "hessian"])
    def test_derivative_of_the_parameters_and_of_the_validation_loss(self, curvature: str) -> None:
        model, gradients, validation = self.problem()
        theta = self.start.flatten()
        c = torch.zeros(4, dtype=torch.float64).index_add(0, self.rows, W * self.slopes(theta))
        small = 3e-6
        numeric = torch.stack(
            [
                (self.constrained(W + e, c) - self.constrained(W - e, c)) / (2 * small)
                for e in small * torch.eye(6, dtype=torch.float64)
            ],
            dim=1,
        )
        p = torch.sigmoid(theta[self.rows])
        D = torch.zeros(4, dtype=torch.float64).index_add(0, self.rows, W * p * (1 - p))
        F = torch.zeros(4, 6, dtype=torch.float64)
        F[self.rows, torch.arange(6)] = self.slopes(theta)
        assert difference(-F / D.unsqueeze(1), numeric) < 1e-7, "∂θ/∂w = −diag(h)F, eq. 7"

        def validation_loss(w: Tensor) -> Tensor:
            return validation.value([self.constrained(w, c).view(4, 1)])

        gradient = torch.cat(
            [
                (validation_loss(W + e) - validation_loss(W - e)) / (2 * small)
                for e in small * torch.eye(6, dtype=torch.float64)
            ]
        )
        if curvature == "ggn":  # exact for this network, from signals; the graph's is an estimate
            gradients = SignalRecorder(model)(self.rows, self.y, CASES["one logit"].loss())
        options = {**OPTIONS, "curvature": curvature, "damping": 0.0, "step_size": 1e-6, "polyak": None}
        step = constraint_step(gradients, W, validation, **options)
        assert difference(step.weight_change / 1e-6, -gradient) < 1e-7, "w' = w − η ∂L_val/∂w, eq. 8"
        # A short step keeps to the constraint: F(θ')w' = c to first order.
        after = flat(model.parameters)
        kept = torch.zeros(4, dtype=torch.float64).index_add(
            0, self.rows, (W + step.weight_change) * self.slopes(after)
        )
        assert difference(kept, c) < 1e-9
        assert (self.slopes(after) - self.slopes(theta)).abs().max() > 1e-7
        assert step.loss_after < step.loss_before


def ill_conditioned(seed: int, spread: float, n_rows: int) -> tuple[Model, SignalRecorder, Any, Tensor]:
    """A network on columns and with layers of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    scales = 10.0 ** torch.linspace(-spread, spread, 4, dtype=torch.float64)
    X = torch.randn(n_rows, 4, generator=generator, dtype=torch.float64) * scales
    y = torch.randint(2, (n_rows,), generator=generator)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    model = Model(module)
    return model, SignalRecorder(model), X, y


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(0, 4),
    curvature=st.sampled_from(CURVATURES),
    damping=st.sampled_from([0.0, 1e-8, 1e-3, 1.0]),
    step_size=st.sampled_from([None, 1e-2, 1e6]),
    polyak=st.sampled_from([0.1, 1.0, 100.0]),
    lp_coef=st.sampled_from([0.0, 1e-2]),
)
def test_the_validation_loss_does_not_rise(
    seed: int,
    spread: float,
    curvature: str,
    damping: float,
    step_size: float | None,
    polyak: float,
    lp_coef: float,
) -> None:
    """With backtracking, whatever the conditioning; and the parameters stay finite."""
    model, recorder, X, y = ill_conditioned(seed, spread, 12)
    loss = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))
    validation = ValidationLoss(model, loss, X[8:], y[8:], lp_coef=lp_coef)
    weights = torch.full((8,), 1 / 8, dtype=torch.float64)
    options = {
        **OPTIONS,
        "curvature": curvature,
        "damping": damping,
        "step_size": step_size,
        "polyak": polyak,
    }
    share = torch.ones(1, dtype=torch.float64)
    start = float(validation.value(model.parameters))
    for _ in range(6):
        before = float(validation.value(model.parameters))
        old = flat(model.parameters)
        step: ConstraintStep = constraint_step(
            recorder(X[:8], y[:8], loss), weights, validation, **{**options, "share": share}
        )
        share = step.share
        after = float(validation.value(model.parameters))
        assert after <= before
        assert after == float(step.loss_after)
        assert before == pytest.approx(float(step.loss_before), rel=1e-12)
        assert step.weight_change.isfinite().all()
        assert all(p.isfinite().all() for p in model.parameters)
        if step.step_size == 0:
            assert torch.equal(flat(model.parameters), old)
            assert not step.weight_change.any()
        assert 0 < share <= 1
    assert float(validation.value(model.parameters)) <= start


def test_backtracking_gets_on_where_the_whole_step_is_far_too_long() -> None:
    model, recorder, X, y = ill_conditioned(3, 2.0, 12)
    loss = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))
    validation = ValidationLoss(model, loss, X[8:], y[8:])
    weights = torch.full((8,), 1 / 8, dtype=torch.float64)
    share = torch.ones(1, dtype=torch.float64)
    before = float(validation.value(model.parameters))
    for _ in range(40):
        options = {**OPTIONS, "curvature": "identity", "polyak": 1e4, "share": share}
        share = constraint_step(recorder(X[:8], y[:8], loss), weights, validation, **options).share
    assert float(validation.value(model.parameters)) < 0.9 * before


def test_without_backtracking_a_step_may_raise_the_loss() -> None:
    """Or the test above would show nothing."""
    model, recorder, X, y = ill_conditioned(3, 2.0, 12)
    loss = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))
    validation = ValidationLoss(model, loss, X[8:], y[8:])
    weights = torch.full((8,), 1 / 8, dtype=torch.float64)
    options = {**OPTIONS, "curvature": "identity", "polyak": 1e4}
    step = constraint_step(recorder(X[:8], y[:8], loss), weights, validation, **options)
    assert step.loss_after > step.loss_before


@pytest.mark.parametrize("broken", ["training", "validation"])
def test_numbers_that_are_not_finite_move_nothing(broken: str) -> None:
    case = CASES["tanh"]
    model = case.model()
    x, y = numbers()
    bad = x.clone()
    bad[0, 0] = torch.nan
    train, val = (bad, x) if broken == "training" else (x, bad)
    validation = ValidationLoss(model, case.loss(), val, y)
    before = flat(model.parameters)
    gradients = SignalRecorder(model)(train, y, case.loss())
    step = constraint_step(
        gradients, W, validation, **{**OPTIONS, "share": torch.ones(1, dtype=torch.float64)}
    )
    assert torch.equal(flat(model.parameters), before)
    assert not step.weight_change.any()
    assert step.step_size == 0

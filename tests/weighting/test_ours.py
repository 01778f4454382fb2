"""Algorithm 1 of Liu et al. 2022 through the estimator, and line by line with everything materialised."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from tests.core import oracles
from tests.core.oracles import flat
from tests.golden import Golden, golden_module, load, replay
from tests.test_golden import FROM_THE_START, SGD
from tests.weighting.problem import Net, data, fitted, pair

PLAIN = ExampleLoss(torch.nn.CrossEntropyLoss(reduction="none"))


class SlowOurs:
    """One object, one batch at a time; h, F and every gradient as vectors and matrices of R^K."""

    def __init__(
        self, golden: Golden, normalization: str, n_steps: int, limit: float, backtrack: bool
    ) -> None:
        self.golden, self.softmax = golden, normalization == "softmax"
        self.n_steps, self.limit, self.backtrack = n_steps, limit, backtrack
        self.module = golden_module()
        self.model = Model(self.module)
        self.stored = torch.full((64,), 0.5, dtype=torch.float64)
        self.share = 1.0
        self.shares_seen: set[float] = set()

    def write(self, theta: Tensor) -> None:
        with torch.no_grad():
            for p, new in zip(self.model.parameters, oracles.like_parameters(theta, self.model), strict=True):
                p.copy_(new)

    def validation(self, theta: Tensor, *, slope: bool = True) -> tuple[Tensor, Tensor | None]:
        """Mean loss on the validation rows + 0.01 Σ|θ|⁴."""
        own = flat(self.model.parameters)
        self.write(theta)
        losses = PLAIN(self.module(self.golden.Xv), self.golden.yv)
        value = losses.mean() + 0.01 * sum((p**4).sum() for p in self.model.parameters)
        gradient = oracles.gradient(value, self.model) if slope else None
        self.write(own)
        return value.detach(), gradient

    def normalized(self, raw: Tensor) -> Tensor:
        return torch.softmax(raw / 2, 0) if self.softmax else raw / raw.sum()

    def step(self, rows: Tensor) -> Tensor:
        X, y = self.golden.X[rows], self.golden.y[rows]
        theta = flat(self.model.parameters)
        F = oracles.row_gradients(self.model, X, y, PLAIN)
        raw = self.stored[rows]
        # Line 3: a step on the weights through the virtual network.
        _, slope = self.validation(theta - 0.1 * F @ raw)
        raw = (raw / 2 - (-0.1 * F.mT @ slope)).clamp(min=1e-5)
        # Lines 4 and 5: normalise, and the step of the network.
        w = self.normalized(raw)
        self.write(theta - 0.1 * F @ w)
        # Lines 6 to 9, with θ and w moving together.
        for _ in range(self.n_steps):
            theta, inner = flat(self.model.parameters), self.normalized(raw)
            F = oracles.row_gradients(self.model, X, y, PLAIN)
            h = 1 / (oracles.gauss_newton_diagonal(self.model, X, y, PLAIN, inner) + 1e-2)
            value, slope = self.validation(theta)
            u = F.mT @ (h * slope)
            eta = min(self.limit, (0.5 if self.backtrack else 0.01) * value / (u @ u)) * self.share
            moved = theta - eta * h * (F @ u)
            taken = not self.backtrack or self.validation(moved, slope=False)[0] <= value
            self.shares_seen.add(self.share)
            if self.backtrack:
                self.share = min(1.0, 2 * self.share) if taken else self.share / 4
            if not taken:
                continue
            self.write(moved)
            if self.softmax:
                raw = raw + 2 * ((inner + eta * u).clamp(min=1e-300) / inner).log()
            else:
                raw = raw + raw.sum() * eta * u
            raw = raw.clamp(min=1e-5)
        self.stored[rows] = raw
        return w


@pytest.mark.parametrize("normalization", ["linear", "softmax"])
@pytest.mark.parametrize(
    ("n_steps", "limit", "backtrack"), [(1, 1e-3, False), (3, torch.inf, False), (4, torch.inf, True)]
)
def test_against_the_algorithm_box(normalization: str, n_steps: int, limit: float, backtrack: bool) -> None:
    golden = load("hu")
    slow = SlowOurs(golden, normalization, n_steps, limit, backtrack)
    recorder, used = replay(
        golden,
        **SGD,
        **FROM_THE_START,
        weighting="ours",
        weighting__initial_weight=0.5,
        weighting__decay=2.0,
        weighting__floor=1e-5,
        weighting__normalization=normalization,
        weighting__temperature=2.0,
        weighting__lp_norm=4,
        weighting__lp_coef=0.01,
        weighting__n_constraint_steps=n_steps,
        weighting__constraint_step_size=None if limit == torch.inf else limit,
        weighting__polyak=0.5 if backtrack else 0.01,
        weighting__damping=1e-2,
        weighting__backtrack=backtrack,
        validation_data=(golden.Xv.numpy(), golden.yv.numpy()),
    )
    for step, rows in enumerate(golden.idx):
        w = slow.step(rows)
        # Long unguarded steps would amplify differences of rounding; so do these, a little.
        rtol = 1e-10 * 10 ** (2 * step / 19)
        np.testing.assert_allclose(used[step], w, rtol=rtol, atol=1e-13)
        np.testing.assert_allclose(recorder.stored[step], slow.stored, rtol=rtol, atol=1e-13)
        found = np.concatenate([recorder.parameters[step][name].ravel() for name in ("W1", "b1", "W2", "b2")])
        np.testing.assert_allclose(found, flat(slow.model.parameters), rtol=rtol, atol=rtol)
    if backtrack:
        assert len(slow.shares_seen) > 1, "some step was not taken"


@pytest.mark.parametrize("optimizer", [{}, {"optimizer": torch.optim.SGD}], ids=["adam", "sgd"])
@pytest.mark.parametrize("coef", [0.0, 0.03])
def test_two_phase_against_a_loop_by_hand(optimizer: dict[str, Any], coef: float) -> None:
    """Stage 2 minimises the validation rows' mean loss plus the penalty, on whole batches here."""
    net = Net()
    fit = fitted(
        "two-phase", module=net, weighting__lp_norm=4, weighting__lp_coef=coef, batch_size=-1, **optimizer
    )
    kind = optimizer.get("optimizer", torch.optim.Adam)
    by_hand = kind(net.parameters(), lr=0.05)
    X_val, y_val = (torch.from_numpy(part) for part in pair())
    for _ in range(3):
        loss = torch.nn.functional.cross_entropy(net(X_val), y_val)
        loss = loss + coef * sum((p.abs() ** 4).sum() for p in net.parameters())
        by_hand.zero_grad()
        loss.backward()
        by_hand.step()
    for found, expected in zip(fit.module_.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert (fit.example_weights_ == 0).all()


@pytest.mark.parametrize("scheme", ["inverse", "inverse-sqrt", "effective-number"])
def test_proportion_against_a_loop_by_hand(scheme: str) -> None:
    net = Net()
    options = {"batch_size": -1, "optimizer": torch.optim.SGD}
    fit = fitted("proportion", module=net, weighting__scheme=scheme, weighting__beta=0.9, **options)
    X, y = (torch.from_numpy(part[:64]) for part in data())
    n = np.bincount(y)
    c = {"inverse": 1 / n, "inverse-sqrt": n**-0.5, "effective-number": 0.1 / (1 - 0.9**n)}[scheme]
    w = torch.from_numpy(2 * c / c.sum())[y] / 64
    by_hand = torch.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(3):
        by_hand.zero_grad()
        torch.dot(w, torch.nn.functional.cross_entropy(net(X), y, reduction="none")).backward()
        by_hand.step()
    for found, expected in zip(fit.module_.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(fit.example_weights_, 64 * w, rtol=1e-12)

"""Settings under which one method is another, through the estimator: bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch

from skreweight.weighting import WEIGHTINGS
from tests.weighting.problem import N_ROWS, Net, assert_close, assert_same, data, fitted, parameters

SGD = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9}
both_optimizers = pytest.mark.parametrize("optimizer", [SGD, {}], ids=["sgd", "adam"])
both_nets = pytest.mark.parametrize(
    "net", [{}, {"module__dropout": 0.3, "module__norm": True}], ids=["plain net", "dropout, batch norm"]
)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_sample_weights_of_one(name: str) -> None:
    # Effective numbers are those of as many rows as the weights sum to.
    counts_rows = {"weighting__beta": 0.0} if name == "meta" else {}
    assert_same(fitted(name), fitted(name, sample_weight=np.ones(N_ROWS)))
    assert_same(fitted(name, **counts_rows), fitted(name, sample_weight=np.full(N_ROWS, 4.0), **counts_rows))


@both_optimizers
@both_nets
@pytest.mark.parametrize("sign", [1, -1])
def test_absgd_with_infinite_lambda_is_the_plain_loss(
    optimizer: dict[str, Any], net: dict[str, Any], sign: int
) -> None:
    assert_same(
        fitted("absgd", weighting__lam=sign * float("inf"), **optimizer, **net),
        fitted("none", **optimizer, **net),
    )


@both_optimizers
@both_nets
def test_hu_that_stands_still_is_the_plain_loss(optimizer: dict[str, Any], net: dict[str, Any]) -> None:
    """Step 0 and decay 1 keep the weights; all of them 1, that is the mean loss. The validation and virtual
    passes in between leave dropout's draws and BatchNorm's statistics as they were."""
    still = {"weighting__step_size": 0.0, "weighting__decay": 1.0, "weighting__initial_weight": 1.0}
    hu, none = fitted("hu", **still, **optimizer, **net), fitted("none", **optimizer, **net)
    assert (hu.example_weights_ == 1).all()
    if net:  # the products of this net go through autograd, in the very order of a plain step
        assert_same(hu, none)
    else:  # the closed formulas sum in another order
        assert_close(hu, none, rtol=1e-13)


def test_hu_that_stands_still_keeps_any_weights() -> None:
    """Fixed stored weights w: the step is on Σ w f / Σ w, written out here."""
    net = Net()
    start = [p.detach().clone() for p in net.parameters()]
    X, y = data()
    stored = torch.linspace(0.1, 2, N_ROWS, dtype=torch.float64)

    class Order:
        def __iter__(self):
            return iter(torch.arange(N_ROWS).split(16))

    from skreweight.weighting import Hu

    class Fixed(Hu):
        def start(self, new):
            self.state_ = {"weights": stored.clone()}

    fit = fitted(Fixed(step_size=0.0, decay=1.0), module=net, iterator_train__batch_sampler=Order(), **SGD)
    assert np.array_equal(fit.example_weights_, stored.numpy())
    assert all(torch.equal(p, s) for p, s in zip(net.parameters(), start, strict=True)), "the user's own"
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        for rows in torch.arange(N_ROWS).split(16):
            losses = torch.nn.functional.cross_entropy(
                net(torch.from_numpy(X[rows])), torch.from_numpy(y[rows]), reduction="none"
            )
            optimizer.zero_grad()
            (losses * stored[rows] / stored[rows].sum()).sum().backward()
            optimizer.step()
    for found, expected in zip(parameters(fit), net.parameters(), strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-11, atol=1e-13)


@both_optimizers
@both_nets
@pytest.mark.parametrize(("normalization", "floor"), [("linear", 1e-5), ("linear", 0.0), ("softmax", 1e-5)])
def test_ours_without_constraint_steps_is_hu(
    optimizer: dict[str, Any], net: dict[str, Any], normalization: str, floor: float
) -> None:
    options = {"weighting__normalization": normalization, "weighting__floor": floor, **optimizer, **net}
    ours, hu = fitted("ours", weighting__n_constraint_steps=0, **options), fitted("hu", **options)
    assert_same(ours, hu)
    assert np.array_equal(ours.example_weights_, hu.example_weights_)


@both_nets
def test_a_constraint_step_of_size_zero_is_hu(net: dict[str, Any]) -> None:
    """Its passes leave dropout's draws and BatchNorm's statistics as they were."""
    options = {"weighting__floor": 0.0, **net}
    ours, hu = fitted("ours", weighting__constraint_step_size=0.0, **options), fitted("hu", **options)
    assert_same(ours, hu)
    assert np.array_equal(ours.example_weights_, hu.example_weights_)


@pytest.mark.parametrize("name", ["two-phase", "ren", "hu", "ours", "meta", "meta-weight-net"])
def test_a_penalty_of_coefficient_zero(name: str) -> None:
    assert_same(fitted(name), fitted(name, weighting__lp_norm=8, weighting__lp_coef=0.0))
    with pytest.raises(AssertionError):
        assert_same(fitted(name), fitted(name, weighting__lp_norm=4, weighting__lp_coef=0.1))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_without_stage_two_every_method_is_none(name: str) -> None:
    options = {"warmup_epochs": 2, "max_epochs": 0}
    assert_same(fitted(name, **options), fitted("none", **options))


@both_nets
def test_stage_one_is_the_plain_loss_whatever_follows(net: dict[str, Any]) -> None:
    """Two epochs of "none" after one are three; of another method they are not."""
    three = fitted("none", warmup_epochs=1, max_epochs=2, **net)
    assert_same(three, fitted("none", warmup_epochs=3, max_epochs=0, **net))
    with pytest.raises(AssertionError):
        assert_same(three, fitted("hu", warmup_epochs=1, max_epochs=2, **net))


def test_absgd_with_gamma_one_weighs_by_the_softmax_of_the_batch() -> None:
    net = Net()
    X, y = data()
    fit = fitted("absgd", module=net, weighting__gamma=1.0, weighting__lam=0.5, batch_size=-1, **SGD)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        losses = torch.nn.functional.cross_entropy(
            net(torch.from_numpy(X[:N_ROWS])), torch.from_numpy(y[:N_ROWS]), reduction="none"
        )
        weights = torch.softmax(losses.detach() / 0.5, 0)
        optimizer.zero_grad()
        torch.dot(weights, losses).backward()
        optimizer.step()
    for found, expected in zip(parameters(fit), net.parameters(), strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(fit.example_weights_, N_ROWS * weights, rtol=1e-10)


def test_proportion_of_balanced_classes_is_none() -> None:
    _, y = data()
    rows = np.concatenate([np.flatnonzero(y[:N_ROWS] == c)[:8] for c in (0, 1)])
    assert_same(fitted("proportion", rows=rows), fitted("none", rows=rows))


def test_proportion_is_the_same_as_class_weights() -> None:
    """Balanced class weights n/(C n_c) differ from mean-one inverse frequencies by a factor only."""
    _, y = data()
    counts = np.bincount(y[:N_ROWS])
    weights = dict(enumerate(2 * (1 / counts) / (1 / counts).sum()))
    assert_close(fitted("proportion", **SGD), fitted("none", class_weight=weights, **SGD), rtol=1e-12)


@both_optimizers
@both_nets
@pytest.mark.parametrize(
    ("name", "still"),
    [
        ("top-loss", {"weighting__keep": 1.0}),
        ("term", {"weighting__t": 0.0}),
        ("term", {"weighting__t": 0.0, "weighting__correct_start": False, "weighting__update": 1.0}),
    ],
)
def test_without_focus_on_large_losses_it_is_the_plain_loss(
    name: str, still: dict[str, Any], optimizer: dict[str, Any], net: dict[str, Any]
) -> None:
    assert_same(fitted(name, **still, **optimizer, **net), fitted("none", **optimizer, **net))


@both_nets
@pytest.mark.parametrize(
    ("name", "still", "other", "options"),
    [
        ("eg", {"eta": 0.0}, "none", {}),
        ("meta-weight-net", {"net_lr": 0.0}, "none", {}),
        ("meta-weight-net", {"net_lr": 0.0, "net_optimizer": "sgd", "through_loss": True}, "none", {}),
        ("meta", {"conditional_step": 0.0}, "proportion", {"weighting__scheme": "effective-number"}),
        ("meta", {"virtual_lr": 0.0, "bound": None}, "proportion", {"weighting__scheme": "effective-number"}),
        ("meta", {"beta": 0.0, "conditional_step": 0.0}, "none", {}),
    ],
)
def test_what_stands_still(
    name: str, still: dict[str, Any], other: str, options: dict[str, Any], net: dict[str, Any]
) -> None:
    """The validation and virtual passes in between leave dropout's draws and BatchNorm's statistics as they were."""
    still = {f"weighting__{parameter}": value for parameter, value in still.items()}
    assert_close(fitted(name, **still, **SGD, **net), fitted(other, **options, **SGD, **net), rtol=1e-12)


def test_term_with_one_tilt_is_absgd() -> None:
    """On all rows at once: t = τ = 1/λ, the present batch alone in the average."""
    term = fitted("term", weighting__t=2.0, weighting__tau=2.0, weighting__update=1.0, batch_size=-1, **SGD)
    absgd = fitted("absgd", weighting__lam=0.5, weighting__gamma=1.0, batch_size=-1, **SGD)
    assert_close(term, absgd, rtol=1e-12)
    np.testing.assert_allclose(term.example_weights_, absgd.example_weights_, rtol=1e-10)


def test_meta_with_the_optimizers_rate_as_a_number() -> None:
    """`virtual_lr=None` is the present learning rate; and META with a step that counts is not proportion."""
    steps = {"weighting__conditional_step": 5.0, **SGD}
    assert_close(fitted("meta", **steps), fitted("meta", weighting__virtual_lr=0.05, **steps), rtol=1e-12)
    with pytest.raises(AssertionError):
        assert_close(
            fitted("meta", **steps), fitted("proportion", weighting__scheme="effective-number", **SGD), 1e-4
        )

"""The losses against naive formulas in NumPy, finite differences, and the recorded runs of ABSGD."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skorch import NeuralNetClassifier
from torch import Tensor

from skreweight.losses import (
    BalancedSoftmaxLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    class_weights,
    effective_number_weights,
    focal_loss,
    ldam_loss,
    ldam_margins,
    logit_adjusted_loss,
    normalize_logits,
)
from skreweight.modules import MLP
from tests.golden import GoldenModule, load

COUNTS = np.array([40, 18, 6])


def naive_softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def naive_cross_entropy(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.array([-np.log(p[y]) for p, y in zip(naive_softmax(logits), target, strict=True)])


def naive_focal(logits: np.ndarray, target: np.ndarray, gamma: float = 2.0) -> np.ndarray:
    p = np.array([row[y] for row, y in zip(naive_softmax(logits), target, strict=True)])
    return -((1 - p) ** gamma) * np.log(p)


def naive_ldam(
    logits: np.ndarray, target: np.ndarray, scale: float = 30.0, exponent: float = 0.25, tau: float = 0.0
) -> np.ndarray:
    margins = 1 / COUNTS**exponent
    margins = margins * 0.5 / margins.max()
    shifted = logits / np.sqrt((logits**2).sum(axis=1, keepdims=True)) ** tau
    for row, y in zip(shifted, target, strict=True):
        row[y] -= margins[y]
    return naive_cross_entropy(scale * shifted, target)


def naive_logit_adjusted(logits: np.ndarray, target: np.ndarray, tau: float = 1.0) -> np.ndarray:
    return naive_cross_entropy(logits + tau * np.log(COUNTS / COUNTS.sum()), target)


# criterion by reduction, and what it must equal
CASES: dict[str, tuple[Callable[..., torch.nn.Module], Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "focal": (lambda **kw: FocalLoss(**kw), naive_focal),
    "focal gamma 0": (lambda **kw: FocalLoss(0.0, **kw), naive_cross_entropy),
    "focal gamma 0.5": (lambda **kw: FocalLoss(0.5, **kw), lambda z, y: naive_focal(z, y, 0.5)),
    "focal gamma 1": (lambda **kw: FocalLoss(1, **kw), lambda z, y: naive_focal(z, y, 1.0)),
    "ldam": (lambda **kw: LDAMLoss(COUNTS, **kw), naive_ldam),
    "ldam scale 3, exponent 2/5": (
        lambda **kw: LDAMLoss(COUNTS, scale=3.0, exponent=0.4, **kw),
        lambda z, y: naive_ldam(z, y, 3.0, 0.4),
    ),
    "ldam tau 1": (lambda **kw: LDAMLoss(COUNTS, tau=1.0, **kw), lambda z, y: naive_ldam(z, y, tau=1.0)),
    "ldam tau 0.5": (lambda **kw: LDAMLoss(COUNTS, tau=0.5, **kw), lambda z, y: naive_ldam(z, y, tau=0.5)),
    "logit adjusted": (lambda **kw: LogitAdjustedLoss(COUNTS, **kw), naive_logit_adjusted),
    "logit adjusted tau 0": (lambda **kw: LogitAdjustedLoss(COUNTS, 0.0, **kw), naive_cross_entropy),
    "logit adjusted tau 1.5": (
        lambda **kw: LogitAdjustedLoss(COUNTS, 1.5, **kw),
        lambda z, y: naive_logit_adjusted(z, y, 1.5),
    ),
    "balanced softmax": (
        lambda **kw: BalancedSoftmaxLoss(COUNTS, **kw),
        lambda z, y: naive_cross_entropy(z + np.log(COUNTS), y),
    ),
}

every_case = pytest.mark.parametrize("case", CASES)


def rows(n: int = 7, seed: int = 0, requires_grad: bool = False) -> tuple[Tensor, Tensor]:
    """Logits for three classes and targets, float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(requires_grad), torch.arange(n) % 3


class TestEveryCriterion:
    @every_case
    def test_equals_the_naive_formula(self, case: str) -> None:
        make, naive = CASES[case]
        logits, target = rows(50)
        losses = make(reduction="none")(logits, target)
        assert losses.dtype == torch.float64
        np.testing.assert_allclose(
            losses.numpy(), naive(logits.numpy(), target.numpy()), rtol=1e-10, atol=1e-14
        )

    @every_case
    def test_reductions(self, case: str) -> None:
        make, _ = CASES[case]
        logits, target = rows()
        losses = make(reduction="none")(logits, target)
        assert losses.shape == (7,)
        assert torch.equal(make(reduction="mean")(logits, target), losses.mean())
        assert torch.equal(make()(logits, target), losses.mean())
        assert torch.equal(make(reduction="sum")(logits, target), losses.sum())
        with pytest.raises(ValueError, match='reduction must be "none", "mean" or "sum", got \'median\''):
            make(reduction="median")

    @every_case
    def test_first_and_second_derivatives_in_both_modes(self, case: str) -> None:
        make, _ = CASES[case]
        criterion = make(reduction="none")
        logits, target = rows(requires_grad=True)
        loss = lambda z: criterion(z, target)  # noqa: E731
        assert torch.autograd.gradcheck(loss, (logits,), check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(loss, (logits,))

    @every_case
    @pytest.mark.parametrize("size", [1e2, 1e4])
    def test_extreme_logits_in_float32(self, case: str, size: float) -> None:
        make, _ = CASES[case]
        logits = size * torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
        logits.requires_grad_()
        losses = make(reduction="none")(logits, torch.tensor([0, 0, 0, 1]))
        (gradient,) = torch.autograd.grad(losses.sum(), logits, create_graph=True)
        (curvature,) = torch.autograd.grad(gradient.square().sum(), logits)
        for tensor in (losses, gradient, curvature):
            assert torch.isfinite(tensor).all()
        assert (losses >= 0).all()
        assert losses[1] > losses[0]

    @every_case
    def test_half_precision_logits_are_computed_in_float32(self, case: str) -> None:
        make, _ = CASES[case]
        criterion = make(reduction="none")
        logits, target = rows()
        logits = (1e4 * logits).half()
        losses = criterion(logits, target)
        assert losses.dtype == torch.float32
        assert torch.equal(losses, criterion(logits.float(), target))
        assert torch.isfinite(losses).all()

    @every_case
    def test_pickle_and_state_dict(self, case: str) -> None:
        make, _ = CASES[case]
        criterion = make(reduction="none")
        logits, target = rows()
        expected = criterion(logits, target)
        assert torch.equal(pickle.loads(pickle.dumps(criterion))(logits, target), expected)
        other = make(reduction="none")
        if "class_counts" in (state := criterion.state_dict()):
            assert list(state) == ["class_counts"]
            other.class_counts.fill_(1)
        other.load_state_dict(state)
        assert all(torch.equal(other.state_dict()[key], value) for key, value in state.items())
        assert torch.equal(other(logits, target), expected)
        assert not list(criterion.parameters())

    @every_case
    def test_rows_do_not_see_each_other(self, case: str) -> None:
        make, _ = CASES[case]
        criterion = make(reduction="none")
        logits, target = rows()
        one_by_one = torch.cat([criterion(logits[[i]], target[[i]]) for i in range(7)])
        torch.testing.assert_close(criterion(logits, target), one_by_one, rtol=1e-14, atol=0)
        mapped = torch.func.vmap(lambda z, y: criterion(z[None], y[None])[0])(logits, target)
        torch.testing.assert_close(mapped, one_by_one, rtol=1e-14, atol=0)

    @every_case
    def test_probabilities_are_those_of_the_margin_free_logits(self, case: str) -> None:
        make, _ = CASES[case]
        logits, _ = rows()
        probabilities = make().probabilities(logits)
        torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(7, dtype=torch.float64))
        assert torch.equal(probabilities.argmax(dim=1), logits.argmax(dim=1))

    @every_case
    def test_wrong_shapes(self, case: str) -> None:
        make, _ = CASES[case]
        with pytest.raises(ValueError, match=r"needs logits of shape .* got \(5, 3\) and \(4,\)"):
            make()(torch.zeros(5, 3), torch.zeros(4, dtype=torch.long))
        with pytest.raises(ValueError, match=r"C >= 2 .* got \(5, 1\) and \(5,\)"):
            make()(torch.zeros(5, 1), torch.zeros(5, dtype=torch.long))
        with pytest.raises(ValueError, match=r"got \(5,\) and \(5,\)"):
            make()(torch.zeros(5), torch.zeros(5, dtype=torch.long))

    @every_case
    def test_trains_a_skorch_classifier(self, case: str) -> None:
        make, _ = CASES[case]
        made = make()
        arguments = {"criterion__class_counts": COUNTS} if made.state_dict() else {}
        golden = load("absgd")
        net = NeuralNetClassifier(
            MLP(8, 3, hidden=(16,), normalized_head=isinstance(made, LDAMLoss)),
            criterion=type(made),
            lr=0.05,
            max_epochs=10,
            train_split=None,
            verbose=0,
            **arguments,
        ).fit(golden.X.float().numpy(), golden.y.numpy())
        losses = net.history[:, "train_loss"]
        assert losses[-1] < losses[0]


class TestFocal:
    @pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.5, 2.0, 5.0])
    def test_gradient_where_p_rounds_to_one(self, gamma: float) -> None:
        """With q = 1 - p tiny, the loss is q^(gamma + 1) and its slope -(gamma + 1) q^(gamma + 1)."""
        logits = torch.tensor([[40.0, 0.0]], dtype=torch.float64, requires_grad=True)
        loss = focal_loss(logits, torch.tensor([0]), gamma)
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        expected = torch.tensor(np.exp(-40 * (gamma + 1)))
        torch.testing.assert_close(loss[0].detach(), expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient[0, 0], -(gamma + 1) * expected, rtol=1e-12, atol=0)

    def test_gamma_may_be_a_tensor(self) -> None:
        logits, target = rows()
        gammas = torch.linspace(0, 3, 7, dtype=torch.float64)
        expected = [focal_loss(logits[[i]], target[[i]], float(g))[0] for i, g in enumerate(gammas)]
        assert torch.equal(focal_loss(logits, target, gammas), torch.stack(expected))

    @pytest.mark.parametrize("gamma", [-0.1, float("inf"), float("nan")])
    def test_gamma_out_of_range(self, gamma: float) -> None:
        with pytest.raises(ValueError, match="gamma"):
            FocalLoss(gamma)

    def test_gamma_of_another_type(self) -> None:
        with pytest.raises(TypeError, match="gamma"):
            FocalLoss("2")  # type: ignore[arg-type]


class TestLDAM:
    def test_margins(self) -> None:
        margins = ldam_margins(torch.tensor([10_000.0, 16.0, 1.0]), max_margin=0.8)
        torch.testing.assert_close(margins, torch.tensor([0.08, 0.4, 0.8]))

    @pytest.mark.parametrize("exponent", [0.25, 0.4, 0.0])
    def test_margins_of_integer_counts_follow_the_power(self, exponent: float) -> None:
        margins = ldam_margins(torch.tensor(COUNTS), exponent=exponent)
        assert margins.max() == 0.5
        ratios = (torch.tensor(COUNTS) / 40.0) ** -exponent
        torch.testing.assert_close(margins / margins[0], ratios)

    def test_class_calls_the_function(self) -> None:
        logits, target = rows()
        margins = ldam_margins(torch.tensor(COUNTS, dtype=torch.float64), 0.3, 0.5)
        criterion = LDAMLoss(COUNTS, max_margin=0.3, scale=7.0, exponent=0.5, tau=2.0, reduction="none")
        expected = ldam_loss(normalize_logits(logits, 2.0), target, margins, scale=7.0)
        assert torch.equal(criterion(logits, target), expected)

    def test_normalized_rows_have_length_one(self) -> None:
        logits, _ = rows()
        lengths = torch.linalg.vector_norm(normalize_logits(logits), dim=1)
        torch.testing.assert_close(lengths, torch.ones(7, dtype=torch.float64))

    def test_probabilities_use_the_scale(self) -> None:
        logits, _ = rows()
        expected = torch.softmax(30 * logits / logits.norm(dim=1, keepdim=True), dim=1)
        torch.testing.assert_close(LDAMLoss(COUNTS, tau=1.0).probabilities(logits), expected)

    @pytest.mark.parametrize(
        "arguments", [{"max_margin": -1}, {"scale": 0}, {"exponent": -0.25}, {"tau": float("nan")}]
    )
    def test_numbers_out_of_range(self, arguments: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(arguments))):
            LDAMLoss(COUNTS, **arguments)


class TestLogitAdjusted:
    def test_shares_do_for_counts(self) -> None:
        logits, target = rows()
        by_counts = LogitAdjustedLoss(COUNTS, reduction="none")(logits, target)
        by_shares = LogitAdjustedLoss(COUNTS / COUNTS.sum(), reduction="none")(logits, target)
        torch.testing.assert_close(by_counts, by_shares, rtol=1e-12, atol=0)

    def test_counts_and_shares_differ_by_nothing(self) -> None:
        logits, target = rows()
        priors = torch.tensor(COUNTS, dtype=torch.float64).log()
        torch.testing.assert_close(
            logit_adjusted_loss(logits, target, priors),
            logit_adjusted_loss(logits, target, priors - 12.0),
            rtol=1e-12,
            atol=1e-14,
        )
        assert isinstance(BalancedSoftmaxLoss(COUNTS), LogitAdjustedLoss)

    def test_negative_tau(self) -> None:
        with pytest.raises(ValueError, match="tau"):
            LogitAdjustedLoss(COUNTS, tau=-1.0)


class TestClassCounts:
    @pytest.mark.parametrize("make", [LDAMLoss, LogitAdjustedLoss, BalancedSoftmaxLoss])
    def test_array_likes(self, make: type[torch.nn.Module]) -> None:
        logits, target = rows()
        expected = make(COUNTS)(logits, target)
        read_only = COUNTS.copy()
        read_only.flags.writeable = False
        for counts in (COUNTS.tolist(), torch.tensor(COUNTS), COUNTS.astype("float32"), read_only):
            assert torch.equal(make(counts)(logits, target), expected)

    def test_are_copied(self) -> None:
        counts = torch.tensor(COUNTS)
        criterion = LDAMLoss(counts)
        counts.fill_(1)
        assert criterion.class_counts.tolist() == COUNTS.tolist()

    @pytest.mark.parametrize("make", [LDAMLoss, LogitAdjustedLoss, BalancedSoftmaxLoss])
    @pytest.mark.parametrize(
        ("counts", "words"),
        [
            ([3, 0], "must be positive for every class"),
            ([3, -1], "not negative"),
            ([3.0, float("nan")], "finite"),
            ([0, 0], "not all zero"),
            ([], "one count per class"),
            ([[1, 2]], r"got \(1, 2\)"),
        ],
    )
    def test_wrong_counts(self, make: type[torch.nn.Module], counts: list[float], words: str) -> None:
        with pytest.raises(ValueError, match=f"class_counts.*{words}"):
            make(counts)

    @pytest.mark.parametrize("make", [LDAMLoss, LogitAdjustedLoss, BalancedSoftmaxLoss])
    def test_as_many_as_outputs(self, make: type[torch.nn.Module]) -> None:
        with pytest.raises(ValueError, match="3 columns but class_counts gave 2 classes"):
            make([5, 5])(*rows())


class TestClassWeights:
    def test_golden_values(self) -> None:
        """The weights of the class-balanced runs, by the formula as it is written."""
        weights = (1 - 0.9999) / (1 - 0.9999**COUNTS)
        np.testing.assert_allclose(
            effective_number_weights(COUNTS), weights / weights.sum() * 3, rtol=1e-10, atol=0
        )

    def test_schemes(self) -> None:
        np.testing.assert_allclose(
            class_weights(COUNTS), 3 * (1 / COUNTS) / (1 / COUNTS).sum(), rtol=1e-14, atol=0
        )
        roots = 1 / np.sqrt(COUNTS)
        np.testing.assert_allclose(
            class_weights(COUNTS, "inverse-sqrt"), 3 * roots / roots.sum(), rtol=1e-14, atol=0
        )
        assert torch.equal(
            class_weights(COUNTS, "effective-number", beta=0.9), effective_number_weights(COUNTS, 0.9)
        )
        with pytest.raises(ValueError, match=r"scheme must be \"inverse\".*got 'square'"):
            class_weights(COUNTS, "square")

    @given(
        counts=st.lists(st.integers(0, 10**12), min_size=1, max_size=6).filter(any),
        beta=st.floats(0, 1, exclude_max=True),
        scheme=st.sampled_from(["inverse", "inverse-sqrt", "effective-number"]),
    )
    def test_sum_to_the_number_of_classes_and_fall_with_the_count(
        self, counts: list[int], beta: float, scheme: str
    ) -> None:
        weights = class_weights(counts, scheme, beta)
        assert weights.sum().item() == pytest.approx(len(counts), rel=1e-12)
        assert [w == 0 for w in weights] == [n == 0 for n in counts]
        by_count = [w for n, w in sorted(zip(counts, weights.tolist(), strict=True)) if n > 0]
        assert all(small >= large * (1 - 1e-12) for small, large in pairwise(by_count))

    def test_limits_of_beta(self) -> None:
        counts = [1, 100, 10_000]
        assert effective_number_weights(counts, beta=0.0).tolist() == [1.0, 1.0, 1.0]
        torch.testing.assert_close(
            effective_number_weights(counts, beta=1 - 1e-15), class_weights(counts), rtol=1e-10, atol=0
        )

    @pytest.mark.parametrize("beta", [0.5, 0.9999, 1 - 1e-9])
    def test_against_exact_fractions(self, beta: float) -> None:
        counts = [1, 7, 50]
        weights = [1 / (1 - Fraction(beta) ** n) for n in counts]
        expected = [float(3 * weight / sum(weights)) for weight in weights]
        np.testing.assert_allclose(effective_number_weights(counts, beta), expected, rtol=1e-13, atol=0)

    @pytest.mark.parametrize("beta", [-0.1, 1.0, 2.0])
    def test_beta_out_of_range(self, beta: float) -> None:
        with pytest.raises(ValueError, match="beta"):
            effective_number_weights(COUNTS, beta)

    @pytest.mark.parametrize("scheme", ["inverse", "inverse-sqrt", "effective-number"])
    def test_wrong_counts(self, scheme: str) -> None:
        with pytest.raises(ValueError, match="class_counts must be finite, not negative"):
            class_weights([1, -1], scheme)


class TestGolden:
    """All ABSGD runs: the recorded losses from the recorded parameters, and the next parameters from both."""

    golden = load("absgd")

    def losses(self, name: str, step: int, module: GoldenModule) -> Tensor:
        """Return the per-example losses that the run's settings ask for."""
        settings = self.golden.meta[name]
        kind = settings.get("loss_type", "abce")
        idx = self.golden.idx[step]
        logits, target = module(self.golden.X[idx]), self.golden.y[idx]
        deferred = settings.get("rule") == "reweight" and step >= 8
        class_weight = effective_number_weights(self.golden.cls_num_list, 0.9999 if deferred else 0.0)[target]
        if kind == "abldam":
            criterion = LDAMLoss(self.golden.cls_num_list, tau=settings["tau"], reduction="none")
            return class_weight * criterion(logits, target)
        if kind == "abfocal" and not deferred:
            return FocalLoss(gamma=1.0, reduction="none")(logits, target)
        cross_entropy = torch.nn.functional.cross_entropy(logits, target, reduction="none")
        if kind == "abfocal":  # the authors' quirk, see the notes of FocalLoss: p of the weighted loss
            return (1 - torch.exp(-class_weight * cross_entropy)) * class_weight * cross_entropy
        return class_weight * cross_entropy

    @pytest.mark.parametrize("name", golden.meta)
    def test_losses_and_parameters(self, name: str) -> None:
        settings, recorded = self.golden.meta[name], self.golden.run(name)
        module = GoldenModule(self.golden)
        optimizer = torch.optim.SGD(
            module.parameters(),
            lr=0.1,
            momentum=settings.get("momentum", 0.0),
            weight_decay=settings.get("wd", 0.0),
        )
        for step in range(20):
            module.load_state_dict(self.golden.parameters(name, step))
            losses = self.losses(name, step, module)
            np.testing.assert_allclose(
                losses.detach().numpy(), recorded["per_ex_loss"][step], rtol=1e-10, atol=1e-13
            )
            weighted = (torch.from_numpy(recorded["p"][step]) * losses).sum()
            assert weighted.item() == pytest.approx(recorded["loss"][step], rel=1e-10)
            optimizer.zero_grad()
            weighted.backward()
            optimizer.step()
            for key, expected in self.golden.parameters(name, step + 1).items():
                torch.testing.assert_close(
                    module.get_parameter(key).detach(), expected, rtol=1e-10, atol=1e-13
                )

"""The network for tables and its layers, against a twin that is written out formula by formula."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from torch import Tensor, nn
from torch.nn import functional as F

from skreweight import ReweightedClassifier
from skreweight.core.chain import Chain
from skreweight.core.model import Model
from skreweight.modules import InputScale, NTPLinear, PeriodicEmbedding, RobustScaling, TableNet
from skreweight.weighting import WEIGHTINGS

SMALL = {"hidden": (6, 5), "n_frequencies": 4, "embedding_size": 2}


def drawn(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return the network in float64, no parameter left at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


def rows(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 5


def scaled_slowly(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Robust scaling and smooth clip, column by column in NumPy."""
    out = np.empty_like(x)
    for j in range(x.shape[1]):
        column = train[:, j]
        low, high = np.quantile(column, 0.25), np.quantile(column, 0.75)
        if high > low:
            s = 1 / (high - low)
        elif column.max() > column.min():
            s = 2 / (column.max() - column.min())
        else:
            s = 0.0
        z = (x[:, j] - np.median(column)) * s
        out[:, j] = z / np.sqrt(1 + (z / 3) ** 2)
    return out


def twin(parameters: dict[str, Tensor], x: Tensor, n_numeric: int, n_hidden: int) -> Tensor:
    """Return the logits by loops over columns and layers; x is scaled already."""
    new = []
    for j in range(n_numeric):
        cosines = torch.cos(
            2 * math.pi * x[:, j : j + 1] * parameters["layers.embedding.frequency"][j]
            + parameters["layers.embedding.phase"][j]
        )
        for k in range(parameters["layers.embedding.bias"].shape[1]):
            weight = parameters["layers.embedding.weight"][j, k]
            new.append((cosines * weight).sum(1) + parameters["layers.embedding.bias"][j, k])
    x = torch.stack([*x.unbind(1), *new], dim=1) * parameters["layers.input_scale.scale"]
    for name in [*(f"linear_{i + 1}" for i in range(n_hidden)), "output"]:
        weight, bias = parameters[f"layers.{name}.weight"], parameters[f"layers.{name}.bias"]
        x = torch.einsum("bi,oi->bo", x, weight) / math.sqrt(weight.shape[1]) + bias
        if name != "output":
            x = torch.where(x > 0, x, 1.6732632423543772 * torch.expm1(x)) * 1.0507009873554805
    return x


class TestRobustScaling:
    @pytest.mark.parametrize("n", [1, 2, 7, 200])
    def test_equals_numpy(self, n: int) -> None:
        generator = np.random.default_rng(0)
        train = generator.normal(size=(n, 4)) * [1e-3, 1, 1e6, 1] + [0, 5, 1e6, 0]
        train[:, 3] = generator.random(n) < 0.1  # IQR 0
        x = generator.normal(size=(50, 4)) * [1, 50, 1e7, 1]
        layer = RobustScaling(4).double().fit(torch.from_numpy(train))
        out = layer(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(out, scaled_slowly(train, x), rtol=1e-12, atol=1e-12)

    def test_unfitted_it_only_clips(self) -> None:
        x = rows(20, 3)
        torch.testing.assert_close(RobustScaling(3)(x), x / (1 + (x / 3) ** 2).sqrt(), rtol=1e-12, atol=0)
        assert torch.equal(RobustScaling(3, clip=None)(x), x)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_no_finite_value_comes_out_as_nan(self, dtype: torch.dtype) -> None:
        largest = torch.finfo(dtype).max
        x = torch.tensor([-largest, -1e25, -1.0, 0.0, 1.0, 1e25, largest], dtype=dtype)[:, None]
        narrow = torch.tensor([[0.0], [1e-38], [2e-38], [3e-38]])
        for train in (narrow, narrow + 1, torch.ones(3, 1), torch.tensor([[-3e38], [3e38]])):
            out = RobustScaling(1).to(dtype).fit(train)(x)
            assert out.isfinite().all() and out.abs().max() <= 3
            assert (out.diff(dim=0) >= 0).all()

    def test_outliers_meet_the_clip(self) -> None:
        train = torch.arange(5.0)[:, None]
        assert RobustScaling(1, clip=2.0).fit(train)(torch.tensor([[-1e30], [1e30]])).tolist() == [
            [-2.0],
            [2.0],
        ]

    def test_is_a_buffer_that_no_forward_pass_changes(self) -> None:
        layer = RobustScaling(2).fit(torch.tensor([[0.0, 1.0], [4.0, 1.0]]))
        state = copy.deepcopy(layer.state_dict())
        layer(torch.randn(9, 2))
        assert state.keys() == layer.state_dict().keys() == {"median", "scale"}
        assert state["median"].tolist() == [2.0, 1.0] and state["scale"].tolist() == [0.5, 0.0]
        assert all(torch.equal(state[name], layer.state_dict()[name]) for name in state)
        assert not list(layer.parameters())
        again = RobustScaling(2)
        again.load_state_dict(state)
        assert torch.equal(again.median, layer.median)

    def test_leading_axes_are_members(self) -> None:
        train, x = rows(3, 30, 4), rows(3, 5, 4, seed=2)
        together = RobustScaling(4).double().fit(train)
        assert together.median.shape == together.scale.shape == (3, 4)
        for k in range(3):
            assert torch.equal(together(x)[k], RobustScaling(4).double().fit(train[k])(x[k]))

    @pytest.mark.parametrize(
        ("x", "words"),
        [
            (torch.zeros(5, 2), r"of shape \(N, 3\).*got \(5, 2\)\."),
            (torch.zeros(0, 3), r"at least one row, got \(0, 3\)\."),
            (torch.zeros(3), r"got \(3,\)\."),
            (torch.tensor([[0.0, torch.nan, 0.0]]), "finite, got NaN or infinity: fill gaps"),
            (torch.tensor([[0.0, torch.inf, 0.0]]), "finite, got NaN or infinity"),
        ],
    )
    def test_wrong_rows(self, x: Tensor, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            RobustScaling(3).fit(x)


class TestLayers:
    def test_ntp_linear_starts_as_it_says(self) -> None:
        torch.manual_seed(0)
        layer = NTPLinear(300, 200)
        for parameter in (layer.weight, layer.bias):
            assert abs(parameter.mean()) < 0.2 and abs(parameter.std() - 1) < 0.15
        assert abs(layer(torch.randn(500, 300)).std() - math.sqrt(2)) < 0.1
        zero = NTPLinear(3, 2, zero_init=True)
        assert not zero.weight.any() and not zero.bias.any()

    def test_embedding_starts_as_it_says(self) -> None:
        torch.manual_seed(0)
        layer = PeriodicEmbedding(50, n_frequencies=25, embedding_size=4, frequency_scale=0.3)
        assert abs(layer.frequency.std() - 0.3) < 0.02
        assert layer.phase.abs().max() <= math.pi and abs(layer.phase.std() - math.pi / math.sqrt(3)) < 0.1
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= 0.2 and abs(parameter.std() - 0.2 / math.sqrt(3)) < 0.02

    def test_embedding_stands_behind_all_columns(self) -> None:
        x = rows(7, 5)
        layer = PeriodicEmbedding(3).double()
        out = layer(x)
        assert out.shape == (7, 5 + 3 * 3) and torch.equal(out[:, :5], x)
        changed = x.clone()
        changed[:, 1] += 1
        assert (layer(changed) != out).any(0).nonzero().flatten().tolist() == [1, 8, 9, 10]

    @pytest.mark.parametrize(
        "make", [lambda: NTPLinear(4, 3), lambda: PeriodicEmbedding(2), lambda: InputScale(4)]
    )
    def test_leading_axes_broadcast(self, make) -> None:
        members = [drawn(make(), seed) for seed in range(3)]
        stacked, _ = torch.func.stack_module_state(members)
        for x in (rows(8, 4), rows(3, 8, 4), rows(2, 3, 8, 4)):
            together = torch.func.functional_call(members[0], stacked, (x,))
            for k, member in enumerate(members):
                alone = member(x if x.dim() == 2 else x[..., k, :, :])
                torch.testing.assert_close(together[..., k, :, :], alone, rtol=1e-12, atol=1e-12)

    def test_reset_draws_anew(self) -> None:
        for layer in (NTPLinear(3, 2), PeriodicEmbedding(2), InputScale(3)):
            before = copy.deepcopy(dict(layer.named_parameters()))
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.fill_(9.0)
            layer.reset_parameters()
            assert all((p != 9).all() for p in layer.parameters())
            assert all(p.shape == before[name].shape for name, p in layer.named_parameters())

    @pytest.mark.parametrize(
        ("make", "error", "words"),
        [
            (lambda: RobustScaling(0), ValueError, "n_features"),
            (lambda: RobustScaling(2, clip=0), ValueError, "clip"),
            (lambda: PeriodicEmbedding(0), ValueError, "n_embedded"),
            (lambda: PeriodicEmbedding(2, n_frequencies=0), ValueError, "n_frequencies"),
            (lambda: PeriodicEmbedding(2, embedding_size=1.5), TypeError, "embedding_size"),
            (lambda: PeriodicEmbedding(2, frequency_scale=0), ValueError, "frequency_scale"),
            (lambda: InputScale("3"), TypeError, "n_features"),
            (lambda: NTPLinear(0, 2), ValueError, "in_features"),
            (lambda: NTPLinear(2, 0), ValueError, "out_features"),
        ],
    )
    def test_wrong_arguments(self, make, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            make()


class TestTableNet:
    def test_the_recipe(self) -> None:
        network = TableNet(n_features=5, n_classes=3)
        kinds = [type(layer) for layer in network.layers]
        hidden = [NTPLinear, nn.SELU, nn.Dropout]
        assert kinds == [RobustScaling, PeriodicEmbedding, InputScale, *hidden, *hidden, NTPLinear]
        layers = dict(network.layers.named_children())
        assert layers["embedding"].frequency.shape == (5, 16) and layers["embedding"].bias.shape == (5, 3)
        sizes = [
            (layer.in_features, layer.out_features) for layer in network.layers if type(layer) is NTPLinear
        ]
        assert sizes == [(20, 128), (128, 128), (128, 3)]
        assert layers["dropout_1"].p == layers["dropout_2"].p == 0.15
        assert not network(torch.randn(4, 5)).any()

    @pytest.mark.parametrize("n_numeric", [None, 0, 2, 4])
    @pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
    def test_equals_the_twin(self, n_numeric: int | None, hidden: tuple[int, ...]) -> None:
        options = {**SMALL, "hidden": hidden}
        network = drawn(TableNet(4, 3, n_numeric=n_numeric, **options)).eval()
        train, x = rows(40, 4), rows(9, 4, seed=2)
        scaled = torch.from_numpy(scaled_slowly(train.numpy(), x.numpy()))
        expected = twin(
            dict(network.named_parameters()), scaled, 4 if n_numeric is None else n_numeric, len(hidden)
        )
        torch.testing.assert_close(network.fit_scaling(train)(x), expected, rtol=1e-12, atol=1e-12)

    def test_gradients_equal_the_twin(self) -> None:
        network = drawn(TableNet(4, 3, n_numeric=3, **SMALL)).eval()
        x, targets = rows(9, 4) / 20, torch.arange(9) % 3
        parameters = dict(network.named_parameters())
        ours = torch.autograd.grad(F.cross_entropy(network(x), targets), list(parameters.values()))
        scaled = x / (1 + (x / 3) ** 2).sqrt()
        slow = F.cross_entropy(twin(parameters, scaled, 3, 2), targets)
        theirs = torch.autograd.grad(slow, list(parameters.values()))
        for one, other in zip(ours, theirs, strict=True):
            assert one.abs().sum() > 0
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("own_rows", [False, True])
    @pytest.mark.parametrize("by", ["broadcasting", "vmap"])
    def test_members_at_once(self, own_rows: bool, by: str) -> None:
        members = [
            drawn(TableNet(4, 3, n_numeric=2, **SMALL), seed).eval().fit_scaling(rows(30, 4, seed=seed))
            for seed in range(3)
        ]
        stacked, buffers = torch.func.stack_module_state(members)  # type: ignore[arg-type]
        x = rows(3, 8, 4) if own_rows else rows(8, 4)

        def logits(parameters, buffers, x):
            return torch.func.functional_call(members[0], (parameters, buffers), (x,))

        if by == "vmap":
            together = torch.func.vmap(logits, in_dims=(0, 0, 0 if own_rows else None))(stacked, buffers, x)
        else:
            together = logits(stacked, buffers, x)
        assert together.shape == (3, 8, 3)
        for k, member in enumerate(members):
            alone = member(x[k] if own_rows else x)
            torch.testing.assert_close(together[k], alone, rtol=1e-12, atol=1e-12)

    def test_forward_changes_no_state(self) -> None:
        network = drawn(TableNet(4, 2, **SMALL)).train()
        before = copy.deepcopy(network.state_dict())
        network(rows(6, 4)).sum().backward()
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())

    def test_forward_mode_agrees_with_backward(self) -> None:
        network = drawn(TableNet(4, 3, **SMALL)).eval()
        x = rows(5, 4)
        parameters = dict(network.named_parameters())
        direction = {name: torch.randn_like(p) for name, p in parameters.items()}
        _, forward = torch.func.jvp(
            lambda p: torch.func.functional_call(network, p, (x,)), (parameters,), (direction,)
        )
        cotangent = torch.randn_like(forward)
        grads = torch.autograd.grad((network(x) * cotangent).sum(), list(parameters.values()))
        backward = sum((g * d).sum() for g, d in zip(grads, direction.values(), strict=True))
        torch.testing.assert_close((forward * cotangent).sum(), backward, rtol=1e-8, atol=1e-10)

    def test_sequential_is_its_forward(self) -> None:
        network = drawn(TableNet(4, 3, **SMALL)).eval()
        assert torch.equal(network.sequential()(rows(5, 4)), network(rows(5, 4)))
        model = Model(network)
        assert Chain.of(model) is not None, "trained without autograd"
        assert Chain.of(model.evaluation()) is not None

    def test_pickle(self) -> None:
        network = drawn(TableNet(4, 3, **SMALL)).eval().fit_scaling(rows(9, 4))
        assert torch.equal(pickle.loads(pickle.dumps(network))(rows(5, 4)), network(rows(5, 4)))

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"n_features": 0}, ValueError, "n_features"),
            ({"n_classes": 1}, ValueError, "n_classes"),
            ({"n_numeric": 5}, ValueError, "n_numeric must be at most n_features, 4, got 5."),
            ({"n_numeric": -1}, ValueError, "n_numeric"),
            ({"hidden": 100}, TypeError, r"give \(100,\)"),
            ({"hidden": (5, 0)}, ValueError, "hidden units"),
            ({"activation": "swish"}, ValueError, "activation must be one of elu, .*selu.*, got 'swish'."),
            ({"dropout": 1.0}, ValueError, "dropout"),
            ({"clip": -1.0}, ValueError, "clip"),
        ],
    )
    def test_wrong_arguments(self, arguments: dict, error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            TableNet(**{"n_features": 4, "n_classes": 3, **arguments})


class TestLearningRates:
    def test_factors(self) -> None:
        factors = TableNet(4, 2).learning_rate_factors()
        assert factors == {
            "layers.embedding.frequency": 0.1,
            "layers.embedding.phase": 0.1,
            "layers.embedding.weight": 0.1,
            "layers.embedding.bias": 0.1,
            "layers.input_scale.scale": 6.0,
            "layers.linear_1.weight": 1.0,
            "layers.linear_1.bias": 0.1,
            "layers.linear_2.weight": 1.0,
            "layers.linear_2.bias": 0.1,
            "layers.output.weight": 1.0,
            "layers.output.bias": 0.1,
        }
        others = TableNet(4, 2, n_numeric=0).learning_rate_factors(bias=2.0, input_scale=3.0)
        assert others["layers.output.bias"] == 2.0 and others["layers.input_scale.scale"] == 3.0

    def test_a_fit_has_them(self) -> None:
        X, y = make_classification(60, 4, n_informative=3, n_redundant=0, random_state=0)
        clf = ReweightedClassifier(
            TableNet,
            lr=0.5,
            optimizer=torch.optim.SGD,
            optimizer__param_groups=TableNet.param_groups(0.5),
            weighting="none",
            warmup_epochs=1,
            max_epochs=0,
        ).fit(X, y)
        rates = {id(p): group["lr"] for group in clf.optimizer_.param_groups for p in group["params"]}
        expected = clf.module_.learning_rate_factors()
        assert {n: rates[id(p)] for n, p in clf.module_.named_parameters()} == pytest.approx(
            {name: 0.5 * factor for name, factor in expected.items()}
        )


class TestInTheClassifier:
    @pytest.mark.parametrize("weighting", WEIGHTINGS)
    def test_every_weighting_trains_it(self, weighting: str) -> None:
        X, y = make_classification(150, 5, n_informative=4, n_redundant=0, weights=[0.7], random_state=0)
        clf = ReweightedClassifier(
            TableNet, weighting=weighting, module__hidden=(16,), batch_size=32, lr=0.04,
            optimizer__param_groups=TableNet.param_groups(), warmup_epochs=8, max_epochs=2, random_state=0,
        ).fit(X, y)  # fmt: skip
        assert clf.module_.layers.linear_1.out_features == 16
        assert clf.score(X, y) > 0.75
        assert np.isfinite(clf.predict_proba(X)).all()

    def test_two_fits_are_equal(self) -> None:
        X, y = make_classification(80, 4, n_informative=3, n_redundant=0, random_state=0)
        options = {"weighting": "none", "warmup_epochs": 2, "max_epochs": 0, "random_state": 3}
        first, second = (
            ReweightedClassifier(TableNet, **options).fit(X, y).predict_proba(X) for _ in range(2)
        )
        assert np.array_equal(first, second)

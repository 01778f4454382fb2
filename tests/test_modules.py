"""The networks: their sizes and layers against the papers, and what the methods need of any network."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from skreweight.modules import MLP, AllCNNC, APSNet, NormedLinear, ResNet32, TextFCN

# A network, and rows that it takes.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLP(n_features=6, n_classes=3), (6,)),
    "mlp tanh, normalized head": (
        lambda: MLP(n_features=6, n_classes=3, hidden=[8], activation="tanh", normalized_head=True),
        (6,),
    ),
    "mlp linear": (lambda: MLP(n_features=6, n_classes=3, hidden=()), (6,)),
    "mlp dropout": (lambda: MLP(n_features=6, n_classes=3, dropout=0.5), (6,)),
    "text": (lambda: TextFCN(n_features=12, n_classes=3), (12,)),
    "aps": (lambda: APSNet(n_features=12, n_classes=3), (12,)),
    "allcnn": (lambda: AllCNNC(n_classes=3, in_channels=1), (1, 12, 12)),
    "resnet": (lambda: ResNet32(n_classes=3), (3, 8, 8)),
    "resnet, normalized head": (
        lambda: ResNet32(n_classes=3, in_channels=1, normalized_head=True),
        (1, 8, 8),
    ),
}

every_network = pytest.mark.parametrize("name", NETWORKS)


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def build(name: str) -> tuple[nn.Module, Tensor]:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    return make().double().eval(), torch.randn(4, *shape, dtype=torch.float64)


class TestEveryNetwork:
    @every_network
    def test_logits(self, name: str) -> None:
        network, X = build(name)
        assert network(X).shape == (4, 3)
        assert network(X[:1]).shape == (1, 3)

    @every_network
    def test_rows_do_not_see_each_other_in_evaluation(self, name: str) -> None:
        network, X = build(name)
        torch.testing.assert_close(network(X)[:1], network(X[:1]), rtol=1e-9, atol=1e-12)

    @every_network
    def test_forward_mode_agrees_with_backward(self, name: str) -> None:
        """The per-example products of the methods take a forward-mode pass through the whole network."""
        network, X = build(name)
        parameters = dict(network.named_parameters())
        direction = {key: torch.randn_like(value) for key, value in parameters.items()}

        def logits_of(parameters: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(network, parameters, (X,))

        _, forward = torch.func.jvp(logits_of, (parameters,), (direction,))
        cotangent = torch.randn_like(forward)
        (network(X) * cotangent).sum().backward()
        backward = sum((parameters[key].grad * direction[key]).sum() for key in parameters)
        torch.testing.assert_close((forward * cotangent).sum(), backward, rtol=1e-8, atol=1e-10)

    @every_network
    def test_every_parameter_gets_a_gradient(self, name: str) -> None:
        network, X = build(name)
        network(X).square().sum().backward()
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.abs().sum() > 0, key

    @every_network
    def test_pickle(self, name: str) -> None:
        network, X = build(name)
        assert torch.equal(pickle.loads(pickle.dumps(network))(X), network(X))

    @every_network
    def test_same_seed_same_network(self, name: str) -> None:
        first, second = build(name)[0], build(name)[0]
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(one, other)

    @pytest.mark.parametrize("network", [MLP, TextFCN, APSNet, AllCNNC, ResNet32])
    @pytest.mark.parametrize(
        ("n_classes", "error"), [(1, ValueError), (0, ValueError), (2.5, TypeError), ("3", TypeError)]
    )
    def test_wrong_number_of_classes(
        self, network: Callable[..., nn.Module], n_classes: object, error: type[Exception]
    ) -> None:
        sizes = {"n_features": 4} if network is MLP else {}
        with pytest.raises(error, match="n_classes"):
            network(n_classes=n_classes, **sizes)

    @pytest.mark.parametrize("network", [MLP, TextFCN, APSNet])
    def test_wrong_number_of_features(self, network: Callable[..., nn.Module]) -> None:
        with pytest.raises(ValueError, match="n_features"):
            network(n_features=0, n_classes=2)


class TestMLP:
    def test_parameter_count(self) -> None:
        assert n_parameters(MLP(8, 3, hidden=(5, 4))) == (8 * 5 + 5) + (5 * 4 + 4) + (4 * 3 + 3)
        assert n_parameters(MLP(8, 3, hidden=())) == 8 * 3 + 3
        assert n_parameters(MLP(8, 3, hidden=(5,), normalized_head=True)) == (8 * 5 + 5) + 5 * 3

    def test_is_plain_linear_layers_and_activation_modules(self) -> None:
        layers = [type(layer) for layer in MLP(8, 3, activation="gelu", dropout=0.1).layers]
        assert layers == [nn.Linear, nn.GELU, nn.Dropout] * 2 + [nn.Linear]

    def test_equals_the_formula(self) -> None:
        network = MLP(8, 3, hidden=(5,), activation="tanh")
        first, second = network.layers[0], network.layers[2]
        X = torch.randn(4, 8)
        expected = torch.tanh(X @ first.weight.T + first.bias) @ second.weight.T + second.bias
        torch.testing.assert_close(network(X), expected)

    def test_numpy_integers(self) -> None:
        assert MLP(np.int64(8), np.int32(3), hidden=np.array([5]))(torch.zeros(2, 8)).shape == (2, 3)

    @pytest.mark.parametrize(
        ("arguments", "error", "words"),
        [
            ({"hidden": 100}, TypeError, r"give \(100,\)"),
            ({"hidden": (5, 0)}, ValueError, "hidden units"),
            ({"hidden": (5.5,)}, TypeError, "hidden units"),
            ({"activation": "swish"}, ValueError, "activation must be one of elu, .*, got 'swish'"),
            ({"activation": "swish", "hidden": ()}, ValueError, "got 'swish'"),
            ({"activation": ("relu",)}, ValueError, "got 1 for 2 layers"),
            ({"dropout": 1.0}, ValueError, "dropout"),
            ({"dropout": -0.1}, ValueError, "dropout"),
        ],
    )
    def test_wrong_arguments(self, arguments: dict[str, object], error: type[Exception], words: str) -> None:
        with pytest.raises(error, match=words):
            MLP(8, 3, **arguments)

    def test_in_a_skorch_classifier(self) -> None:
        X, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
        net = NeuralNetClassifier(
            MLP,
            module__n_features=8,
            module__n_classes=2,
            module__hidden=(),
            verbose=0,
            train_split=None,
            lr=1.0,
        )
        assert (net.set_params(module__hidden=(16,)).fit(X, y).predict(X) == y).mean() >= 0.5


class TestPaperNetworks:
    def test_text(self) -> None:
        """Liu et al. (2022), Table 1."""
        layers = [layer for layer in TextFCN(n_classes=5).layers]
        assert [type(layer) for layer in layers[1::2]] == [nn.ReLU, nn.ReLU, nn.Tanh]
        sizes = [(layer.in_features, layer.out_features) for layer in layers[::2]]
        assert sizes == [(768, 768), (768, 768), (768, 10), (10, 5)]
        assert n_parameters(TextFCN()) == 2 * (768 * 768 + 768) + (768 * 10 + 10) + (10 * 2 + 2)

    def test_aps(self) -> None:
        """Liu et al. (2022), Table 7."""
        layers = [layer for layer in APSNet().layers]
        assert [type(layer) for layer in layers[1::2]] == [nn.ReLU, nn.Tanh]
        assert [(layer.in_features, layer.out_features) for layer in layers[::2]] == [
            (171, 100),
            (100, 100),
            (100, 2),
        ]
        assert n_parameters(APSNet()) == 27_502

    def test_allcnn(self) -> None:
        """Springenberg et al. (2015), Table 1, model C: kernel, channels and stride of each convolution."""
        network = AllCNNC(n_classes=10)
        convolutions = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
        assert [(c.kernel_size[0], c.out_channels, c.stride[0]) for c in convolutions] == [
            *[(3, 96, 1), (3, 96, 1), (3, 96, 2)],
            *[(3, 192, 1), (3, 192, 1), (3, 192, 2)],
            *[(3, 192, 1), (1, 192, 1), (1, 10, 1)],
        ]
        assert n_parameters(network) == 1_369_738
        sizes: list[torch.Size] = []
        convolutions[-1].register_forward_hook(lambda module, inputs, output: sizes.append(output.shape))
        network(torch.zeros(2, 3, 32, 32))
        assert sizes == [(2, 10, 6, 6)]

    def test_allcnn_dropout(self) -> None:
        rates = [layer.p for layer in AllCNNC().layers if isinstance(layer, nn.Dropout)]
        assert rates == [0.2, 0.5, 0.5]
        network = AllCNNC(input_dropout=0.0, dropout=0.0).train()
        X = torch.randn(2, 3, 32, 32)
        assert torch.equal(network(X), network.eval()(X))
        for name in ("dropout", "input_dropout"):
            with pytest.raises(ValueError, match=name):
                AllCNNC(**{name: 1.5})

    def test_allcnn_starts_with_a_signal(self) -> None:
        """Under PyTorch's default start the logits of different images differ by 1e-4 only."""
        torch.manual_seed(0)
        logits = AllCNNC(n_classes=2).eval()(torch.randn(20, 3, 32, 32))
        assert logits.std(dim=0).min() > 0.01

    def test_resnet_size(self) -> None:
        """He et al. (2016), Table 6: 32 layers with weights, 0.46 million parameters."""
        network = ResNet32(n_classes=10)
        assert n_parameters(network) == 464_154
        weights = [p for p in network.parameters() if p.ndim > 1]
        assert len(weights) == 32
        assert n_parameters(ResNet32(n_classes=10, normalized_head=True)) == 464_144
        sizes: list[torch.Size] = []
        for stage in network.stages:
            stage.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape))
        network(torch.zeros(2, 3, 32, 32))
        assert sizes == [(2, 16, 32, 32), (2, 32, 16, 16), (2, 64, 8, 8)]

    def test_resnet_start(self) -> None:
        """He's rule: a standard deviation of sqrt(2 / fan_in) for every weight."""
        torch.manual_seed(0)
        for parameter in ResNet32(n_classes=100).parameters():
            if parameter.ndim > 1:
                expected = (2 / parameter[0].numel()) ** 0.5
                assert parameter.std().item() == pytest.approx(expected, rel=0.1)

    def test_resnet_shortcuts_have_no_parameters(self) -> None:
        network = ResNet32()
        shortcuts = [block.shortcut for stage in network.stages for block in stage]
        assert sum(n_parameters(shortcut) for shortcut in shortcuts) == 0
        X = torch.randn(2, 16, 8, 8)
        output = shortcuts[5](X)
        assert torch.equal(output[:, 8:24], X[:, :, ::2, ::2])
        assert not output[:, :8].any()
        assert not output[:, 24:].any()
        assert output.shape == (2, 32, 4, 4)
        assert torch.equal(shortcuts[1](X), X)


class TestNormedLinear:
    def test_equals_the_cosines(self) -> None:
        torch.manual_seed(0)
        layer = NormedLinear(7, 3).double()
        X = torch.randn(5, 7, dtype=torch.float64)
        expected = [
            [float(x @ w) / (float(x @ x) ** 0.5 * float(w @ w) ** 0.5) for w in layer.weight.detach()]
            for x in X
        ]
        torch.testing.assert_close(
            layer(X), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-14
        )

    def test_lengths_do_not_matter(self) -> None:
        layer = NormedLinear(7, 3).double()
        X = torch.randn(5, 7, dtype=torch.float64)
        expected = layer(X)
        assert expected.abs().max() <= 1
        with torch.no_grad():
            layer.weight.mul_(torch.tensor([[3.0], [0.01], [1e6]]))
        torch.testing.assert_close(layer(1e3 * X), expected)

    def test_starts_with_directions_of_length_one(self) -> None:
        weight = NormedLinear(50, 40).weight
        torch.testing.assert_close(weight.norm(dim=1), torch.ones(40))
        assert weight.mean().abs() < 0.01

    def test_gradients(self) -> None:
        layer = NormedLinear(4, 3).double()
        X = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(layer, (X,), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(layer, (X,))

    def test_row_of_zeros(self) -> None:
        layer = NormedLinear(4, 3)
        output = layer(torch.zeros(2, 4))
        output.sum().backward()
        assert not output.any()
        assert torch.isfinite(layer.weight.grad).all()

    def test_is_no_linear_layer(self) -> None:
        """Code that shares activations and signals of nn.Linear must not take it for one."""
        assert not isinstance(NormedLinear(4, 3), nn.Linear)
        assert repr(NormedLinear(4, 3)) == "NormedLinear(in_features=4, out_features=3)"

    @pytest.mark.parametrize("sizes", [(0, 3), (4, 0)])
    def test_wrong_sizes(self, sizes: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="_features"):
            NormedLinear(*sizes)

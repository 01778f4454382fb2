"""Small problems (network, loss, data) on which every product is compared with per-example autograd.

A case is one line of lambdas; what is made of it is float64 unless asked otherwise. ``path`` names the way to
the products that a training step must find: "signals" (closed formulas), "forward" (forward-mode
differentiation) or "backward" (double backward).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.losses import FocalLoss, LDAMLoss, LogitAdjustedLoss
from skreweight.modules import TableNet

N_ROWS = 6
N_FEATURES = 4


class TwoHeads(nn.Module):
    """Returns a tuple, as skorch allows; the loss takes the first entry."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.other = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(self.body(X))
        return self.head(hidden), self.other(hidden)


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, X: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(X)))))


class Twice(nn.Module):
    """One layer, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(X)))))


class Frozen(nn.Module):
    """The first layer's weight is fixed, its bias is not; the second layer is fixed altogether."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        self.layers[0].weight.requires_grad_(False)
        self.layers[2].requires_grad_(False)

    def forward(self, X: Tensor) -> Tensor:
        return self.layers(X)


class FrozenBias(nn.Module):
    """Layers of several kinds whose weight is trained and whose bias is not, and the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(1, 2, 2), nn.LayerNorm(6), nn.Linear(6, 3)
        self.conv.weight.requires_grad_(False)
        self.norm.bias.requires_grad_(False)
        self.head.bias.requires_grad_(False)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(X.unsqueeze(1)).flatten(1)))


class BehindTheBack(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(X)) + F.linear(X, self.layer.weight))


class MixesRows(nn.Module):
    """Every row's output depends on the other rows of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, X: Tensor) -> Tensor:
        hidden = torch.tanh(self.layer(X))
        return self.head(hidden - hidden.mean(0))


class OwnParameter(nn.Module):
    """A parameter that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor([0.5, 1.0, -2.0]))

    def forward(self, X: Tensor) -> Tensor:
        return torch.tanh(self.layer(X)) * self.scale


class Unused(nn.Module):
    """A layer that plays no part."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.idle = nn.Linear(4, 3), nn.Linear(2, 2)

    def forward(self, X: Tensor) -> Tensor:
        return self.layer(X)


class Positions(nn.Module):
    """A linear layer on rows of several positions each."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(2, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.layer(X.view(-1, 2, 2)))).mean(1))


class Words(nn.Module):
    """An embedding with a padding word, on a mapping of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(5, 3, padding_idx=0), nn.Linear(4, 3)

    def forward(self, words: Tensor, size: Tensor) -> Tensor:
        return self.head(torch.cat([torch.tanh(self.words(words)).mean(1), size], dim=1))


class Recurrent(nn.Module):
    """A recurrent layer, which has no closed formulas here."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.recurrent, self.head = kind(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, X: Tensor) -> Tensor:
        return self.head(self.recurrent(X.view(-1, 2, 2))[0][:, -1])


class Attention(nn.Module):
    """Self-attention over two positions."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(2, 1, batch_first=True), nn.Linear(2, 3)

    def forward(self, X: Tensor) -> Tensor:
        X = X.view(-1, 2, 2)
        return self.head(self.attention(X, X, X, need_weights=False)[0].mean(1))


class _Cube(torch.autograd.Function):
    """x³ with a backward formula that can be differentiated again, and without a forward-mode one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


class OwnFunction(nn.Module):
    """An operation of the user's, and a parameter outside of any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor([0.5, 1.0, -2.0]))

    def forward(self, X: Tensor) -> Tensor:
        return _Cube.apply(self.layer(X)) * self.scale


def numbers(n_classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of four features, and class codes."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(N_ROWS, N_FEATURES, generator=generator, dtype=torch.float64)
    return X, torch.arange(N_ROWS) % n_classes


def images() -> tuple[Tensor, Tensor]:
    X = torch.randn(N_ROWS, 2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return X, torch.arange(N_ROWS) % 3


def words() -> tuple[dict[str, Tensor], Tensor]:
    X, y = numbers()
    return {"words": torch.tensor([[1, 2], [0, 3], [4, 4], [0, 0], [2, 1], [3, 0]]), "size": X[:, :1]}, y


def mlp(activation: Callable[[], nn.Module], n_out: int = 3, *between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), *between, activation(), nn.Linear(5, n_out))


def cross_entropy(**options: Any) -> ExampleLoss:
    return ExampleLoss(nn.CrossEntropyLoss(reduction="none", **options))


@dataclass(frozen=True)
class Case:
    """One small problem; ``path`` in training mode, ``path_in_evaluation`` where it differs."""

    module: Callable[[], nn.Module]
    make_loss: Callable[[], ExampleLoss] = cross_entropy
    data: Callable[[], tuple[Any, Tensor]] = numbers
    path: str = "signals"
    path_in_evaluation: str | None = None
    # The Gauss-Newton matrix is the Hessian where the network is piecewise linear.
    piecewise_linear: bool = False

    def model(self, dtype: torch.dtype = torch.float64, seed: int = 1) -> Model:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            module = self.module().double()
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    buffer.uniform_(0.5, 1.5)
            for parameter in module.parameters():  # norms start at 1 and 0, which hides a lot
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        return Model(module.to(dtype))

    def loss(self, dtype: torch.dtype = torch.float64) -> ExampleLoss:
        loss = self.make_loss()
        loss.criterion.to(dtype)
        if loss.class_scale is not None:
            loss.class_scale = loss.class_scale.to(dtype)
        return loss

    def batch(self, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
        x, y = self.data()
        if isinstance(x, dict):
            return {k: v.to(dtype) if v.is_floating_point() else v for k, v in x.items()}, y
        return x.to(dtype) if x.is_floating_point() else x, y

    def path_when(self, training: bool) -> str:
        return self.path if training or self.path_in_evaluation is None else self.path_in_evaluation


CASES: dict[str, Case] = {
    "relu": Case(lambda: mlp(nn.ReLU), piecewise_linear=True),
    "tanh": Case(lambda: mlp(nn.Tanh)),
    "in-place relu": Case(lambda: mlp(lambda: nn.ReLU(inplace=True)), piecewise_linear=True),
    "linear, two classes": Case(lambda: nn.Linear(4, 2), data=lambda: numbers(2), piecewise_linear=True),
    "relu, two classes": Case(lambda: mlp(nn.ReLU, 2), data=lambda: numbers(2), piecewise_linear=True),
    "two classes, class weights": Case(
        lambda: mlp(nn.ReLU, 2),
        lambda: ExampleLoss(nn.CrossEntropyLoss(reduction="none"), torch.tensor([0.3, 1.7])),
        lambda: numbers(2),
        piecewise_linear=True,
    ),
    "two classes, smoothed labels": Case(
        lambda: mlp(nn.ReLU, 2),
        lambda: cross_entropy(label_smoothing=0.2),
        lambda: numbers(2),
        piecewise_linear=True,
    ),
    "class weights": Case(
        lambda: mlp(nn.ReLU),
        lambda: ExampleLoss(nn.CrossEntropyLoss(reduction="none"), torch.tensor([0.5, 1.5, 1.0])),
        piecewise_linear=True,
    ),
    "criterion with weights": Case(
        lambda: mlp(nn.ReLU),
        lambda: cross_entropy(weight=torch.tensor([0.5, 1.5, 1.0], dtype=torch.float64)),
        piecewise_linear=True,
    ),
    "one logit": Case(
        lambda: nn.Sequential(mlp(nn.Tanh, 1), nn.Flatten(0)),
        lambda: ExampleLoss(_OneLogit()),
        lambda: numbers(2),
    ),
    "focal": Case(lambda: mlp(nn.Tanh), lambda: ExampleLoss(FocalLoss(2.0, reduction="none"))),
    "ldam": Case(lambda: mlp(nn.Tanh), lambda: ExampleLoss(LDAMLoss([9, 5, 2], scale=3.0, reduction="none"))),
    "logit adjusted": Case(
        lambda: mlp(nn.ReLU),
        lambda: ExampleLoss(LogitAdjustedLoss([9, 5, 2], reduction="none")),
        piecewise_linear=True,
    ),
    "convolutions": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2),
            nn.ReLU(),
            nn.Conv2d(4, 2, 2, padding="valid"),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2, 3),
        ),
        data=images,
        piecewise_linear=True,
    ),
    "dilated convolution": Case(
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 4)),
            nn.Conv1d(1, 2, 3, padding="same", dilation=2, bias=False),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(8, 3),
        )
    ),
    "reflecting convolution": Case(
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 4)),
            nn.Conv1d(1, 2, 3, padding=1, padding_mode="reflect"),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(8, 3),
        ),
        path="forward",
    ),
    "batch norm": Case(
        lambda: mlp(nn.Tanh, 3, nn.BatchNorm1d(5)), path="forward", path_in_evaluation="signals"
    ),
    "batch norm of images": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 2, 3),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2, 3),
        ),
        data=images,
        path="forward",
        path_in_evaluation="signals",
    ),
    "batch norm without statistics": Case(
        lambda: mlp(nn.Tanh, 3, nn.BatchNorm1d(5, track_running_stats=False)), path="forward"
    ),
    "dropout": Case(lambda: mlp(nn.ReLU, 3, nn.Dropout(0.4)), piecewise_linear=True),
    "layer norm": Case(lambda: mlp(nn.Tanh, 3, nn.LayerNorm(5))),
    "layer norm without bias": Case(lambda: mlp(nn.Tanh, 3, nn.LayerNorm(5, bias=False))),
    "group norm": Case(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.GroupNorm(2, 4),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        data=images,
    ),
    "embedding": Case(Words, data=words),
    "tied weights": Case(Tied),
    "a layer called twice": Case(Twice),
    "frozen layers": Case(Frozen),
    "frozen weights and biases": Case(FrozenBias),
    "tuple of outputs": Case(TwoHeads),
    "unused layer": Case(Unused, piecewise_linear=True),
    "positions": Case(Positions),
    "weight behind the layer's back": Case(BehindTheBack, path="forward"),
    "rows that mix": Case(MixesRows, path="forward"),
    "own parameter": Case(OwnParameter, path="forward"),
    "own parameter, dropout, batch norm": Case(
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), OwnParameter()),
        path="forward",
    ),
    "weight norm": Case(
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3)
        ),
        path="backward",
    ),
    "table net": Case(lambda: TableNet(4, 3, hidden=(5, 4), n_frequencies=3)),
    "table net, two classes": Case(
        lambda: TableNet(4, 2, n_numeric=2, hidden=(5,), dropout=0.0, n_frequencies=3),
        data=lambda: numbers(2),
    ),
    "attention": Case(Attention, path="forward"),
    "gru": Case(lambda: Recurrent(nn.GRU), path="forward"),
    "lstm": Case(lambda: Recurrent(nn.LSTM), path="forward"),
    "own function": Case(OwnFunction, path="backward"),
}


class _OneLogit(nn.Module):
    """Logistic loss of one logit a row."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")

"""The four training problems that every contestant is timed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from skreweight.modules import MLP

LEARNING_RATE = 1e-3
VALIDATION_ROWS_PER_CLASS = 10
#: How strongly the classes differ; small enough that no network fits the rows in a few epochs.
SIGNAL = 0.3


class SmallConvNet(nn.Module):
    """Two convolutions with pooling and two linear layers, for images of 3 × 32 × 32 (0.1 M parameters)."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 8 * 8, 64), nn.ReLU(), nn.Linear(64, n_classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@dataclass(frozen=True)
class Problem:
    """Rows, labels and the network to train on them.

    Attributes
    ----------
    name, title : str
        What the command line calls it, and what the table calls it.
    make : callable
        Class of the network, called with `arguments`.
    shape : tuple of int
        Shape of one row.
    """

    name: str
    title: str
    make: Callable[..., nn.Module]
    arguments: dict[str, Any]
    shape: tuple[int, ...]
    n_classes: int
    n_rows: int
    batch_size: int

    @property
    def n_batches(self) -> int:
        return -(-self.n_rows // self.batch_size)


@dataclass
class Data:
    """A problem's rows on the device they are trained on, and the clock that times the training."""

    problem: Problem
    device: torch.device
    clock: Callable[[], float]
    x: Tensor = field(init=False)
    y: Tensor = field(init=False)
    x_val: Tensor = field(init=False)
    y_val: Tensor = field(init=False)
    _centres: Tensor = field(init=False)

    def __post_init__(self) -> None:
        p = self.problem
        generator = torch.Generator().manual_seed(0)
        centres = SIGNAL * torch.randn(p.n_classes, *p.shape, generator=generator)
        # A long tail: the rarest class has a tenth of the rows of the most frequent one.
        shares = 10.0 ** -torch.linspace(0, 1, p.n_classes)
        self.y = torch.multinomial(shares, p.n_rows, replacement=True, generator=generator)
        self.y[: p.n_classes] = torch.arange(p.n_classes)  # every class is there
        self.x = centres[self.y] + torch.randn(p.n_rows, *p.shape, generator=generator)
        self.x, self.y = self.x.to(self.device), self.y.to(self.device)
        self._centres = centres
        self.x_val, self.y_val = self.validation_rows(VALIDATION_ROWS_PER_CLASS * p.n_classes)

    def validation_rows(self, n_rows: int) -> tuple[Tensor, Tensor]:
        """Return balanced validation rows and their labels."""
        generator = torch.Generator().manual_seed(1)
        y = torch.arange(n_rows) % self.problem.n_classes
        x = self._centres[y] + torch.randn(n_rows, *self.problem.shape, generator=generator)
        return x.to(self.device), y.to(self.device)

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        return self.problem.make(**self.problem.arguments).to(self.device)


def mlp(name: str, sizes: tuple[int, ...], n_rows: int, batch_size: int) -> Problem:
    """Return the problem of a multilayer perceptron of these sizes, input and classes included."""
    n_features, *hidden, n_classes = sizes
    return Problem(
        name=name,
        title=f"{'-'.join(map(str, sizes))}, N = {n_rows:,}, batch {batch_size}",
        make=MLP,
        arguments={"n_features": n_features, "n_classes": n_classes, "hidden": tuple(hidden)},
        shape=(n_features,),
        n_classes=n_classes,
        n_rows=n_rows,
        batch_size=batch_size,
    )


def problems(*, quick: bool = False, n_rows: int | None = None) -> dict[str, Problem]:
    """Return the problems by name.

    Parameters
    ----------
    quick : bool, default=False
        Tiny problems, to try the script itself.
    n_rows : int or None, default=None
        Another number of rows for all: short epochs that take turns more often on a busy machine.
    """
    rows, images = (256, 64) if quick else (n_rows or 20_000, n_rows or 512)
    small, large = (32, 64) if quick else (128, 1024)
    found = [
        mlp("mlp", (171, 100, 100, 2), rows, small),
        mlp("mlp-1024", (171, 100, 100, 2), rows, large),
        mlp("mlp-10", (30, 256, 256, 10), rows, small),
        Problem(
            name="conv",
            title=f"convolutional net on 3×32×32, 10 classes, N = {images:,}, batch {small}",
            make=SmallConvNet,
            arguments={"n_classes": 10},
            shape=(3, 32, 32),
            n_classes=10,
            n_rows=images,
            batch_size=small,
        ),
    ]
    return {problem.name: problem for problem in found}

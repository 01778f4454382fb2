"""The network of a table and how its two stages are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from skorch.callbacks import LRScheduler
from torch import Tensor, nn

from benchmarks.paper_tables.networks import BidirectionalLSTM, NarrowAllCNNC
from skreweight.modules import MLP, AllCNNC, APSNet, ResNet32, TextFCN

#: Of Qi et al.
_SGD = {
    "optimizer": torch.optim.SGD,
    "optimizer__momentum": 0.9,
    "optimizer__weight_decay": 2e-4,
    "batch_size": 128,
}


@dataclass(frozen=True)
class Recipe:
    """Estimator settings of both stages; with the network that they train."""

    module: Any
    stage_one: Mapping[str, Any]
    stage_two: Mapping[str, Any]
    module_settings: Mapping[str, Any] = field(default_factory=dict)


def _one_optimiser(module: Any, *, lr: float, batch_size: int) -> Recipe:
    """15 and 10 epochs of Adam, as the paper's Table 3 has them for text and appendix A.1 for APS."""
    common = {"lr": lr, "batch_size": batch_size}
    return Recipe(module, {**common, "warmup_epochs": 15}, {**common, "max_epochs": 10})


def aps() -> Recipe:
    """Liu et al., appendix A.1."""
    return _one_optimiser(APSNet, lr=1e-2, batch_size=128)


def text() -> Recipe:
    """Liu et al., Table 3, with Adam(3e-4) on standardised embeddings in place of Adam(1e-2).

    With 1e-2 the units of the two wide layers are dead after stage 1 on these embeddings, and every method
    predicts one class.
    """
    return _one_optimiser(TextFCN, lr=3e-4, batch_size=50)


def small_text() -> Recipe:
    """The package's default network with the optimiser of Liu et al., Table 3."""
    return _one_optimiser(MLP, lr=1e-2, batch_size=50)


def wide_text() -> Recipe:
    """The network of `text` with layers as wide as these embeddings, which Adam(1e-2) leaves as dead."""
    settings = {"module__hidden": (384, 384, 10), "module__activation": ("relu", "relu", "tanh")}
    return replace(_one_optimiser(MLP, lr=3e-4, batch_size=50), module_settings=settings)


def tabular() -> Recipe:
    """The package's defaults."""
    return _one_optimiser(MLP, lr=1e-2, batch_size=128)


def apples(grid: str) -> Recipe:
    """Liu et al., Table 3: stage 1 as Springenberg et al. trained, stage 2 Adam(1e-4), 10 epochs.

    The quick form replaces the 350 epochs of SGD with 10 of Adam(1e-3), and trains 3 in stage 2.
    """
    adam = {"lr": 1e-4, "batch_size": 128}
    if grid == "quick":
        return Recipe(
            AllCNNC, {"lr": 1e-3, "batch_size": 128, "warmup_epochs": 10}, {**adam, "max_epochs": 3}
        )
    stage_one = {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 1e-3,
        "lr": 0.05,
        "batch_size": 128,
        "warmup_epochs": 350,
        "callbacks": [
            LRScheduler(policy=torch.optim.lr_scheduler.MultiStepLR, milestones=[200, 250, 300], gamma=0.1)
        ],
    }
    return Recipe(AllCNNC, stage_one, {**adam, "max_epochs": 10})


def small_apples() -> Recipe:
    """A stand-in for `apples`: the network and the images are small, and all of stage 1 is trained."""
    stage_one = {"lr": 1e-3, "batch_size": 64, "warmup_epochs": 40}
    return Recipe(NarrowAllCNNC, stage_one, {"lr": 3e-4, "batch_size": 64, "max_epochs": 5})


def reviews(grid: str) -> Recipe:
    """Qi et al., section 4.3: 60 epochs of SGD and 30 of ABSGD, the rate divided by 100 at epoch 30, by 10,000 at 60.

    Both stages are one fit. The quick form has a stage 1 of 10 epochs of Adam that all rows of a loss share, and 4
    epochs of stage 2.
    """
    if grid == "quick":
        adam = {"lr": 3e-3, "batch_size": 128}
        return Recipe(BidirectionalLSTM, {**adam, "warmup_epochs": 10}, {**adam, "max_epochs": 4})
    schedule = LRScheduler(policy=torch.optim.lr_scheduler.MultiStepLR, milestones=[30, 60], gamma=1e-2)
    whole = {**_SGD, "lr": 0.01, "warmup_epochs": 60, "max_epochs": 30, "callbacks": [schedule]}
    return Recipe(BidirectionalLSTM, {}, whole)


def embedded_reviews() -> Recipe:
    """The package's default network and learning rate on embeddings of reviews, both stages one fit."""
    return Recipe(MLP, {}, {"batch_size": 128, "warmup_epochs": 10, "max_epochs": 5})


def long_tail(grid: str) -> Recipe:
    """Qi et al., section 4: SGD with momentum, 160 epochs, then 40 at rates 100 and 10,000 times smaller.

    The quick form is a stand-in that shows that everything runs: two epochs and one.
    """
    n_one, n_two = (160, 40) if grid == "paper" else (2, 1)
    # Both stages are one fit: the momentum goes on, and the schedule counts epochs from the start.
    schedule = LRScheduler(policy=torch.optim.lr_scheduler.LambdaLR, lr_lambda=_rate_of_epoch)
    whole = {**_SGD, "lr": 0.1, "warmup_epochs": n_one, "max_epochs": n_two, "callbacks": [schedule]}
    return Recipe(AugmentedResNet32, {}, whole)


def _rate_of_epoch(epoch: int) -> float:
    """The factor on the learning rate: linear over 5 epochs (Cao et al.'s code), 1/100 from 160 and 180 on."""
    if epoch < 5:
        return (epoch + 1) / 5
    return 1.0 if epoch < 160 else 1e-2 if epoch < 180 else 1e-4


class AugmentedResNet32(ResNet32):
    """ResNet-32 that normalises images and, in training, shifts and mirrors them as Cao et al.'s code does."""

    mean: Tensor
    std: Tensor

    def __init__(self, n_classes: int = 10, normalized_head: bool = False) -> None:
        super().__init__(n_classes, normalized_head=normalized_head)
        self.register_buffer("mean", torch.tensor([0.4914, 0.4822, 0.4465]).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2023, 0.1994, 0.2010]).reshape(3, 1, 1))

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits of images in [0, 1]."""
        return super().forward((_shifted(X) if self.training else X).sub(self.mean).div(self.std))


def _shifted(X: Tensor, by: int = 4) -> Tensor:
    """Each image moved by up to 4 pixels in both directions over black, half of them mirrored."""
    n, _, height, width = X.shape
    padded = nn.functional.pad(X, (by, by, by, by))
    top, left = (torch.randint(2 * by + 1, (n, 1), device=X.device) for _ in range(2))
    rows = top + torch.arange(height, device=X.device)
    columns = left + torch.arange(width, device=X.device)
    mirrored = torch.rand(n, 1, device=X.device) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=X.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

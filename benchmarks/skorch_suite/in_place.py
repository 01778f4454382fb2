"""A plugin of pytest: what skorch's tests import as ``NeuralNetClassifier`` is skreweight's classifier."""

from __future__ import annotations

from typing import Any

import skorch
import torch
from skorch.dataset import ValidSplit
from torch import nn

from skreweight import ReweightedClassifier


class NeuralNetClassifier(ReweightedClassifier):
    """`ReweightedClassifier` with skorch's defaults, so that nothing but its behaviour differs."""

    def __init__(
        self,
        module: Any,
        criterion: Any = nn.NLLLoss,
        *,
        optimizer: Any = torch.optim.SGD,
        lr: float = 0.01,
        max_epochs: int = 10,
        train_split: Any = ValidSplit(5, stratified=True),  # noqa: B008
        verbose: int = 1,
        weighting: Any = "none",
        warmup_epochs: int = 0,
        keep_best: Any = False,
        device: Any = "cpu",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("validation_data", train_split or None)
        super().__init__(
            module,
            criterion=criterion,
            optimizer=optimizer,
            lr=lr,
            max_epochs=max_epochs,
            verbose=verbose,
            weighting=weighting,
            warmup_epochs=warmup_epochs,
            keep_best=keep_best,
            device=device,
            **kwargs,
        )


skorch.NeuralNetClassifier = NeuralNetClassifier

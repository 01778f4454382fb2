"""One tiny imbalanced problem and what is left of a fit, for tests through the estimator."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_classification
from torch import nn

from skreweight import ReweightedClassifier

N_ROWS = 64


class Net(nn.Module):
    """Float64, so that what should be equal can be told from what nearly is."""

    def __init__(self, dropout: float = 0.0, norm: bool = False, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 6),
            nn.BatchNorm1d(6) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            nn.Linear(6, 2),
        ).to(dtype)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layers(X)


def data(n_rows: int = N_ROWS + 8) -> tuple[NDArray[Any], NDArray[Any]]:
    X, y = make_classification(
        n_rows, 5, n_informative=4, n_redundant=0, weights=[0.75], flip_y=0.05, random_state=0
    )
    return X, y


def pair() -> tuple[NDArray[Any], NDArray[Any]]:
    """Validation rows: two of each class, none of the training rows."""
    X, y = data()
    held = np.concatenate([np.flatnonzero(y[N_ROWS:] == c)[:2] for c in (0, 1)]) + N_ROWS
    return X[held], y[held]


def fitted(
    weighting: Any, *, sample_weight: Any = None, rows: Any = None, **settings: Any
) -> ReweightedClassifier:
    """Four batches of 16 an epoch, three epochs with the method."""
    X, y = data()
    X, y = X[:N_ROWS], y[:N_ROWS]
    if rows is not None:
        X, y = X[rows], y[rows]
    options = {
        "validation_data": pair(),
        "warmup_epochs": 0,
        "max_epochs": 3,
        "batch_size": 16,
        "lr": 0.05,
        "keep_best": False,
        "random_state": 0,
        **settings,
    }
    return ReweightedClassifier(options.pop("module", Net), weighting=weighting, **options).fit(
        X, y, sample_weight=sample_weight
    )


def parameters(fit: ReweightedClassifier) -> list[torch.Tensor]:
    return [p.detach() for p in fit.module_.parameters()]


def assert_same(first: ReweightedClassifier, second: ReweightedClassifier) -> None:
    """Bit for bit."""
    for a, b in zip(first.module_.state_dict().values(), second.module_.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def assert_close(first: ReweightedClassifier, second: ReweightedClassifier, rtol: float = 1e-10) -> None:
    for a, b in zip(parameters(first), parameters(second), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)

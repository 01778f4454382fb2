"""A record of every weighting's parameters and example weights, to be compared bit for bit while the inside moves.

``SKREWEIGHT_TRACE`` names an ``.npz`` file: where it is missing it is written, where it is there it is compared.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skreweight import ReweightedClassifier
from skreweight.modules import MLP
from skreweight.weighting import WEIGHTINGS

FILE = os.environ.get("SKREWEIGHT_TRACE", "")
OPTIMIZERS = {
    "sgd": {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "lr": 0.05},
    "adam": {"optimizer": torch.optim.Adam, "lr": 0.01},
}


class ConvNet(nn.Module):
    """A convolution, BatchNorm and dropout: what evaluation and training mode tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, 3, 3, padding=1), nn.BatchNorm1d(3)
        self.dropout, self.head = nn.Dropout(0.2), nn.Linear(18, 3)

    def forward(self, X: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.conv(X.unsqueeze(1))))
        return self.head(self.dropout(hidden.flatten(1)))


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return (MLP(6, 3, (8,)) if name == "mlp" else ConvNet()).double()


def record(weighting: str, net: str, optimizer: str) -> dict[str, np.ndarray]:
    """Return θ, buffers, example weights and the validation loss of a short fit in float64."""
    generator = np.random.default_rng(0)
    X, y = generator.normal(size=(90, 6)), np.repeat([0, 1, 2], [60, 20, 10])
    with torch.random.fork_rng():
        module = network(net)
    clf = ReweightedClassifier(
        module=module,
        weighting=weighting,
        warmup_epochs=2,
        max_epochs=3,
        batch_size=16,
        validation_data=3,
        random_state=1,
        **OPTIMIZERS[optimizer],
    )
    weights = generator.integers(0, 3, size=90).astype(float) if optimizer == "adam" else None
    clf.fit(X, y, sample_weight=weights)
    found = {name: tensor.numpy() for name, tensor in clf.module_.state_dict().items()}
    losses = np.array(clf.history_[:, "valid_loss"])
    return {**found, "example_weights": clf.example_weights_, "valid_loss": losses}


@pytest.mark.skipif(not FILE, reason="SKREWEIGHT_TRACE names no file")
def test_every_weighting_gives_the_recorded_bits() -> None:
    found = {
        f"{weighting}/{net}/{optimizer}/{name}": value
        for weighting in WEIGHTINGS
        for net in ("mlp", "conv")
        for optimizer in OPTIMIZERS
        for name, value in record(weighting, net, optimizer).items()
    }
    if not Path(FILE).exists():
        np.savez(FILE, **found)
    with np.load(FILE) as recorded:
        assert set(recorded) == set(found)
        different = [name for name in found if recorded[name].tobytes() != found[name].tobytes()]
    assert different == []

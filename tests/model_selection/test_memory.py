"""How many networks are trained at once, by the memory that they take."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from skreweight import ReweightedClassifier
from skreweight._composition import begun
from skreweight._pack.memory import (
    BYTES_OF_ROW,
    COPIES_OF_OUTPUTS,
    COPIES_OF_PARAMETERS,
    Budget,
    bytes_of_member,
    free_bytes,
)
from skreweight._pack.predict import outputs_of


def started(n_rows: int = 100) -> tuple[ReweightedClassifier, torch.Tensor]:
    X = np.random.default_rng(0).normal(size=(n_rows, 3)).astype(np.float32)
    net = ReweightedClassifier(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), batch_size=10)
    begun(net, X, np.arange(n_rows) % 2, None, None, None)
    return net, torch.from_numpy(X)


def test_bytes_of_a_member() -> None:
    net, X = started()
    parameters = 4 * (3 * 4 + 4 + 4 * 2 + 2)
    layers = 4 * 10 * (4 + 4 + 2 + 2)  # the last for the network as a whole
    expected = (
        BYTES_OF_ROW * 100 + COPIES_OF_PARAMETERS * parameters + COPIES_OF_OUTPUTS * (layers + 4 * 10 * 3)
    )
    assert bytes_of_member(net, X) == expected
    assert Budget(n_bytes=3 * expected + 1).members(net, X, 10) == 3
    assert Budget(n_bytes=1).members(net, X, 10) == 1
    assert Budget(max_members=2, n_bytes=10**12).members(net, X, 10) == 2
    assert Budget().members(net, X, 10) == 10


def test_free_memory_of_this_machine() -> None:
    free = free_bytes(torch.device("cpu"))
    assert free is None or free > 2**20


def test_outputs_of_networks_of_several_structures() -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.arange(60) % 2
    options = {"weighting": "none", "warmup_epochs": 1, "max_epochs": 0}
    nets = [
        ReweightedClassifier(module__hidden=(h,), module__activation=a, random_state=s, **options).fit(X, y)
        for h, a, s in ((3, "relu", 0), (3, "relu", 1), (3, "tanh", 0), (4, "relu", 0))
    ]
    for net, outputs in zip(nets, outputs_of(nets, X), strict=True):
        torch.testing.assert_close(outputs, net._outputs(X))
    assert outputs_of(nets, X[:, :2]) == [None] * 4

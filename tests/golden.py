"""The recorded runs of published implementations, as tests want them, and how they are replayed.

``tests/data/golden_*.npz`` hold numbers only: one tiny problem, and for each run what was computed in every step, by
the authors' code or, where `meta` calls the run "derived", by a slow program of the formula. All is float64;
parameters are those AFTER each step.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

from skreweight import ReweightedClassifier
from skreweight.weighting import Step

DATA = Path(__file__).parent / "data"

# The names of the network's parameters in the files, and in `GoldenModule`.
PARAMETERS = {"W1": "hidden.weight", "b1": "hidden.bias", "W2": "output.weight", "b2": "output.bias"}


@dataclass(frozen=True)
class Golden:
    """One file: the problem all its runs share, their settings (`meta[name]`), and the runs themselves."""

    X: Tensor  # (64, 8), or (24, 5)
    y: Tensor  # (64,), int64: 40, 18 and 6 rows a class; or 14, 7 and 3
    Xv: Tensor  # (9, 8), the validation rows; or (6, 5)
    yv: Tensor  # (9,), 3 a class; or (6,), 2 a class
    W1: Tensor  # (16, 8), or (6, 5)
    b1: Tensor  # (16,), or (6,)
    W2: Tensor  # (3, 16), or (3, 6)
    b2: Tensor  # (3,)
    idx: Tensor  # (20, 16), the rows of each mini-batch: 5 epochs of 4; or (12, 8): 4 epochs of 3
    cls_num_list: Tensor  # (3,)
    meta: dict[str, dict[str, Any]]
    arrays: dict[str, np.ndarray]

    def run(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of a run, each with the steps as its first axis."""
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): array for key, array in self.arrays.items() if key.startswith(prefix)
        }

    def parameters(self, name: str, step: int) -> dict[str, Tensor]:
        """Return a state dict for `GoldenModule`: the parameters that ``step`` starts from."""
        after = self.run(name) if step else {}
        return {
            ours: torch.from_numpy(after[theirs][step - 1]) if step else getattr(self, theirs)
            for theirs, ours in PARAMETERS.items()
        }


@cache
def load(name: str) -> Golden:
    """Return the recorded runs of "absgd", "hu", "meta", "mwn", "term", "ohem" or "eg"."""
    with np.load(DATA / f"golden_{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    problem = {
        key.removeprefix("problem/"): torch.from_numpy(array)
        for key, array in arrays.items()
        if key.startswith("problem/")
    }
    return Golden(**problem, meta=json.loads(str(arrays["meta_json"])), arrays=arrays)


class GoldenModule(nn.Module):
    """logits = W2 tanh(W1 x + b1) + b2 in float64, starting from a problem's parameters."""

    def __init__(self, golden: Golden) -> None:
        super().__init__()
        n_hidden, n_features = golden.W1.shape
        self.hidden = nn.Linear(n_features, n_hidden, dtype=torch.float64)
        self.activation = nn.Tanh()
        self.output = nn.Linear(n_hidden, len(golden.b2), dtype=torch.float64)
        self.load_state_dict({ours: getattr(golden, theirs) for theirs, ours in PARAMETERS.items()})

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, shape (B, C), of rows of shape (B, n_features)."""
        return self.output(self.activation(self.hidden(X)))


def golden_module() -> GoldenModule:
    """Return a fresh network with the starting parameters of ABSGD's and Hu's runs."""
    return GoldenModule(load("absgd"))


class EpochBatches:
    """The recorded batches, as many an epoch as hold all rows once."""

    def __init__(self, golden: Golden) -> None:
        batch_size = golden.idx.shape[1]
        self.batches = golden.idx.reshape(-1, len(golden.X) // batch_size, batch_size).numpy()
        self.epoch = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self.batches[self.epoch]
        self.epoch += 1


class Recorder(Callback):
    """Parameters, stored weights and the weighting's state after each step, as any callback can read them."""

    def __init__(self) -> None:
        self.parameters: list[dict[str, np.ndarray]] = []
        self.stored: list[np.ndarray] = []
        self.states: list[dict[str, np.ndarray]] = []

    def on_batch_end(self, net, training=False, **kwargs):
        if not training:
            return
        state = net.module_.state_dict()
        self.parameters.append({name: state[key].clone().numpy() for name, key in PARAMETERS.items()})
        if net.weighting_.stored_weights is not None:
            self.stored.append(net.weighting_.stored_weights.clone().numpy())
        self.states.append({name: value.clone().numpy() for name, value in net.weighting_.state_.items()})


class Weights(Callback):
    """What `weigh` returned, step by step."""

    def on_train_begin(self, net, **kwargs):
        self.used: list[np.ndarray] = []
        weigh = net.weighting_.weigh

        def watched(step: Step) -> torch.Tensor:
            weights = weigh(step)
            self.used.append(weights.clone().numpy())
            return weights

        net.weighting_.weigh = watched


def replay(golden: Golden, **settings: Any) -> tuple[Recorder, list[np.ndarray]]:
    """Train with the recorded batches, or those given; return what was recorded, and the weights used in stage 2."""
    recorder, weights = Recorder(), Weights()
    ReweightedClassifier(
        GoldenModule(golden),
        iterator_train__batch_sampler=settings.pop("batches", None) or EpochBatches(golden),
        callbacks=[*settings.pop("callbacks", []), recorder, weights],
        keep_best=False,
        **settings,
    ).fit(golden.X.numpy(), golden.y.numpy())
    assert len(recorder.parameters) == len(golden.idx)
    return recorder, weights.used


def assert_parameters(
    recorder: Recorder, recorded: dict[str, np.ndarray], rtol: float = 1e-10, atol: float = 1e-14
) -> None:
    for step, parameters in enumerate(recorder.parameters):
        for name, found in parameters.items():
            np.testing.assert_allclose(
                found, recorded[name][step], rtol=rtol, atol=atol, err_msg=f"{name} after step {step}"
            )

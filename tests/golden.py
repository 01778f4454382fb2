"""The recorded runs of the published ABSGD and Hu et al. implementations, as tests want them.

``tests/data/golden_absgd.npz`` and ``golden_hu.npz`` hold numbers only: one tiny problem, and for each run
what the authors' code computed in every step. All is float64; parameters are those AFTER each step.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DATA = Path(__file__).parent / "data"

# The names of the network's parameters in the files, and in `GoldenModule`.
PARAMETERS = {"W1": "hidden.weight", "b1": "hidden.bias", "W2": "output.weight", "b2": "output.bias"}


@dataclass(frozen=True)
class Golden:
    """One file: the problem all its runs share, their settings (`meta[name]`), and the runs themselves."""

    X: Tensor  # (64, 8)
    y: Tensor  # (64,), int64: 40, 18 and 6 rows a class
    Xv: Tensor  # (9, 8), the validation rows
    yv: Tensor  # (9,), 3 a class
    W1: Tensor  # (16, 8)
    b1: Tensor  # (16,)
    W2: Tensor  # (3, 16)
    b2: Tensor  # (3,)
    idx: Tensor  # (20, 16): the rows of each mini-batch, 5 epochs of 4
    cls_num_list: Tensor  # (3,)
    meta: dict[str, dict[str, Any]]
    arrays: dict[str, np.ndarray]

    def run(self, name: str) -> dict[str, np.ndarray]:
        """Return the arrays of a run, each with the 20 steps as its first axis."""
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): array for key, array in self.arrays.items() if key.startswith(prefix)
        }

    def parameters(self, name: str, step: int) -> dict[str, Tensor]:
        """Return a state dict for `GoldenModule`: the parameters that ``step`` starts from (20: the last)."""
        after = self.run(name) if step else {}
        return {
            ours: torch.from_numpy(after[theirs][step - 1]) if step else getattr(self, theirs)
            for theirs, ours in PARAMETERS.items()
        }


@cache
def load(name: str) -> Golden:
    """Return the recorded runs of "absgd" or "hu"."""
    with np.load(DATA / f"golden_{name}.npz") as file:
        arrays = {key: file[key] for key in file.files}
    problem = {
        key.removeprefix("problem/"): torch.from_numpy(array)
        for key, array in arrays.items()
        if key.startswith("problem/")
    }
    return Golden(**problem, meta=json.loads(str(arrays["meta_json"])), arrays=arrays)


class GoldenModule(nn.Module):
    """logits = W2 tanh(W1 x + b1) + b2 in float64, starting from the problem's parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, 16, dtype=torch.float64)
        self.activation = nn.Tanh()
        self.output = nn.Linear(16, 3, dtype=torch.float64)
        golden = load("absgd")
        self.load_state_dict({ours: getattr(golden, theirs) for theirs, ours in PARAMETERS.items()})

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, shape (B, 3), of rows of shape (B, 8)."""
        return self.output(self.activation(self.hidden(X)))


def golden_module() -> GoldenModule:
    """Return a fresh network with the problem's starting parameters."""
    return GoldenModule()

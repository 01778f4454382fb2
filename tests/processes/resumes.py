"""One process of several that train with a checkpoint, and may be killed in the middle: started by the tests."""

import os
import pickle
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)
warnings.simplefilter("ignore")

import cases  # noqa: E402  beside this file
from skorch.callbacks import Callback  # noqa: E402
from torch import nn  # noqa: E402

from skreweight import ReweightedClassifier  # noqa: E402

RANK = int(os.environ["RANK"])


class Dropped(nn.Sequential):
    def __init__(self) -> None:
        double = {"dtype": torch.float64}
        super().__init__(nn.Linear(6, 8, **double), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 3, **double))


#: Stored weights; a network of the method's own, and Adam's averages; masks of each process's own.
FITS: dict[str, dict[str, Any]] = {
    "hu": {"weighting": "hu", "keep_best": "epoch"},
    "meta-weight-net": {
        "weighting": "meta-weight-net",
        "sampling": "balanced",
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
    },
    "dropout": {"weighting": "ours", "module": Dropped},
}


class Killed(Callback):
    """The end of a process, or of all of them, in the middle of an epoch; the same callback where nothing happens."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.n_batches = 0

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        self.n_batches += 1
        who = os.environ.get("KILLED", "")
        if self.n_batches == 2 and len(net.history) == 4 and who in (str(RANK), "all"):
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, names: list[str]) -> None:
    X, y, weights = cases.rows()
    if os.environ.get("OTHER_ROWS"):
        X = X + 1
    found = {}
    for name in names:
        options = {"module": cases.Chain, "optimizer": torch.optim.SGD, "lr": 0.1, **FITS[name]}
        net = ReweightedClassifier(
            warmup_epochs=2,
            max_epochs=4,
            batch_size=32,
            device="cpu",
            random_state=0,
            callbacks=[Killed()],
            checkpoint=folder / f"{name}.pt",
            **options,
        )
        net.fit(X, y, sample_weight=weights)
        found[name] = {
            "parameters": np.concatenate([p.detach().numpy().ravel() for p in net.module_.parameters()]),
            "weights": net.example_weights_,
            "losses": np.array([row["train_loss"] for row in net.history_]),
            "state": {key: value.numpy() for key, value in net.weighting_.state_.items()},
        }
    (folder / f"{RANK}.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

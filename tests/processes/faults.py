"""One process of several in which something goes wrong: started by the tests."""

import datetime
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)
warnings.simplefilter("ignore")

import cases  # noqa: E402  beside this file
from sklearn.model_selection import GridSearchCV  # noqa: E402
from skorch.callbacks import Callback, Checkpoint  # noqa: E402
from torch import nn  # noqa: E402

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier  # noqa: E402
from skreweight.model_selection import PackedGridSearchCV  # noqa: E402

RANK = int(os.environ["RANK"])


class At(Callback):
    """Does something in the third epoch, before the second step."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.n_batches = 0

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        self.n_batches += 1
        if self.n_batches == 2 and len(net.history) == 3:
            self.what(net)


def die(net: Any) -> None:
    if RANK == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def fail(net: Any) -> None:
    if RANK == 1:
        raise ValueError("an error of the callback's own")


def hang(net: Any) -> None:
    if RANK == 1:
        time.sleep(60)


def interrupt(net: Any) -> None:
    if RANK == 1:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)


def give_up(net: Any) -> None:
    if RANK == 1:
        raise KeyboardInterrupt


def estimator(folder: Path, callbacks: list[Any], **changed: Any) -> ReweightedClassifier:
    settings = {"weighting": "hu", "warmup_epochs": 1, "max_epochs": 5, "batch_size": 16, **changed}
    saved = Checkpoint(dirname=str(folder / f"saved{RANK}"), monitor=None)
    return ReweightedClassifier(device="cpu", callbacks=[saved, *callbacks], verbose=1, **settings)


def main(what: str, folder: Path) -> None:
    X, y, _ = cases.rows("float32")
    if what == "hang":
        torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=5))
    doing = {"die": die, "fail": fail, "hang": hang, "interrupt": interrupt, "give up": give_up}
    net = estimator(folder, [At(doing[what])] if what in doing else [])
    if what == "other rows":
        y = y.copy()
        y[RANK] = (y[RANK] + 1) % 3
    elif what == "batch norm":
        net.set_params(module=nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)))
    elif what == "neighbours":
        net.set_params(weighting__virtual_batch_size=4)
    elif what == "own products":
        net.set_params(weighting=type("Own", (cases.Weighting,), {"needs_products": True}))
    elif what == "own stored":
        net.set_params(weighting=type("Own", (cases.SmallLoss,), {"start": _stores}))
    elif what in ("grid", "packed", "ensemble"):
        net.set_params(callbacks=None, verbose=0)
        grid = {"weighting__decay": [5.0, 10.0]}
        search: Any = {
            "grid": lambda: GridSearchCV(net, grid, cv=2),
            "packed": lambda: PackedGridSearchCV(net, grid, cv=2),
            "ensemble": lambda: ReweightedEnsembleClassifier(n_folds=2),
        }[what]()
        net = search
    elif what == "dropout":
        net.set_params(module=nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 3)))
    if what == "fail":
        try:
            net.fit(X, y)
        except ValueError as error:  # this process lives on, the other must hear of it all the same
            print(f"ValueError: {error}", file=sys.stderr)
            time.sleep(30)
            return
    net.fit(X, y)
    found = [p.detach().numpy().ravel() for p in net.module_.parameters()]
    np.savez(
        folder / f"{RANK}.npz",
        parameters=np.concatenate(found),
        n_epochs=len(net.history_),
        weights=net.example_weights_,
    )


def _stores(self: Any, new: Any) -> None:
    self.state_ = {"weights": new.per_row(1.0)}


if __name__ == "__main__":
    main(sys.argv[2], Path(sys.argv[1]))

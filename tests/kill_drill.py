"""Kill the fit of a method again and again, and see that what is left goes on to the bit.

``python tests/kill_drill.py METHOD N_KILLS FOLDER SEED`` prints what it found as JSON. Children are forked:
torch is imported once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight._net.checkpoint import CheckpointFile
from skreweight._training.loop import Loop

torch.set_num_threads(1)
GENERATOR = np.random.default_rng(0)
Y = (GENERATOR.random(300) < 0.2).astype(int)
X = (GENERATOR.normal(size=(300, 5)) + Y[:, None]).astype(np.float32)


def estimator(method: str) -> Any:
    """Return an estimator whose fit has some dozens of short epochs."""
    if method == "ensemble":
        return ReweightedEnsembleClassifier(n_steps=60, n_folds=2, random_state=0, encoder=None)
    return ReweightedClassifier(
        weighting=method,
        warmup_epochs=12,
        max_epochs=12,
        validation_data=5,
        module__hidden=(8,),
        module__dropout=0.1,
        random_state=0,
        device="cpu",
    )


def result(fitted: Any) -> tuple[bytes, bytes]:
    """Return what must be equal to the bit."""
    return fitted.predict_proba(X).tobytes(), fitted.example_weights_.tobytes()


def epochs_in(file: Path) -> int:
    """Return how many epochs a file holds, which must be whole."""
    if not file.exists():
        return 0
    state = CheckpointFile(file).of_run(0)
    assert state is not None
    return int(state["training"]["progress"]["epochs_done"])


def child(net: Any, pipe: int) -> None:
    """Fit, and write a byte for each epoch that begins."""
    real = Loop._run_epoch

    def told(loop: Loop, epoch: Any) -> None:
        os.write(pipe, b".")
        real(loop, epoch)

    Loop._run_epoch = told  # type: ignore[method-assign]
    try:
        net.fit(X, Y)
    except BaseException:
        os._exit(1)
    os._exit(0)


def killed_or_done(net: Any, n_epochs: int, delay: float) -> tuple[int, int | None]:
    """Kill a fit some time after so many epochs began.

    Returns how many it began, and its exit status where it was not killed.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(net, write)
    os.close(write)
    begun = b""
    while len(begun) < n_epochs and (part := os.read(read, n_epochs - len(begun))):
        begun += part
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    while part := os.read(read, 4096):
        begun += part
    os.close(read)
    return len(begun), os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else None


def drill(method: str, n_kills: int, folder: Path, seed: int) -> dict[str, Any]:
    """Kill so many times, beginning anew whenever a fit got through."""
    file, net = folder / f"{method}.pt", estimator(method)
    expected = result(clone(net).fit(X, Y))
    net.set_params(checkpoint=file)
    begin = time.perf_counter()
    clone(net).fit(X, Y)
    length = time.perf_counter() - begin
    file.unlink()
    generator = np.random.default_rng(seed)
    found: dict[str, Any] = {"kills": 0, "finished": 0, "equal": 0, "lost more than an epoch": 0, "moved": 0}
    while found["kills"] < n_kills:
        before = epochs_in(file)
        begun, status = killed_or_done(
            clone(net), int(generator.integers(4)), float(generator.uniform(0, length / 12))
        )
        after = epochs_in(file)
        found["kills"] += status is None
        found["moved"] += after > before
        found["lost more than an epoch"] += after < before + begun - 1
        if status is not None:
            assert status == 0, "the fit failed"
            found["finished"] += 1
            found["equal"] += result(clone(net).fit(X, Y)) == expected
            file.unlink()
    found["finished"] += 1
    found["equal"] += result(clone(net).fit(X, Y)) == expected
    found["finished"] += 1  # from the file of the last epoch: the finished model
    found["equal"] += result(clone(net).fit(X, Y)) == expected
    return found


if __name__ == "__main__":
    print(json.dumps(drill(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))))

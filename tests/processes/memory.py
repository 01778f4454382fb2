"""One process of one or two that train on memory-mapped rows: writes what memory it took at most."""

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from skreweight import ReweightedClassifier

torch.set_num_threads(1)


def own_memory() -> int:
    """Bytes of this process that lie in no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not say how much memory a process has of its own")


def main(folder: Path) -> None:
    X = np.load(folder / "X.npy", mmap_mode="r")
    y = np.load(folder / "y.npy")
    before, most = own_memory(), [0]

    def watch() -> None:
        while True:
            most[0] = max(most[0], own_memory())
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    net = ReweightedClassifier(
        nn.Linear(X.shape[1], 2),
        weighting="none",
        warmup_epochs=0,
        max_epochs=1,
        batch_size=65536,
        device="cpu",
    )
    net.fit(X, y)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rank, n = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    np.savez(folder / f"{n}_{rank}.npz", own=most[0] - before, peak=peak)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

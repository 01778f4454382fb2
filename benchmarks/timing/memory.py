"""Peak memory and seconds per epoch of a fit as the number of rows grows, each in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from skreweight import ReweightedClassifier
from skreweight.modules import MLP

N_COLUMNS = 50
BATCH_SIZE = 4096
WEIGHTINGS = ("none", "proportion", "two-phase", "ren", "hu", "ours", "absgd")
#: Ways to carve the validation rows, by name.
CARVINGS: dict[str, Any] = {"default": None, "10 a class": 10, "fraction": 0.05, "splitter": "splitter"}


@dataclass(frozen=True)
class MemoryCase:
    """One fit: rows of a dtype, a weighting, a way to carve validation rows.

    ``storage`` is "array" or "memory-map"; `n_epochs` epochs of stage 2 are trained.
    """

    n_rows: int
    dtype: str = "float32"
    weighting: str = "ours"
    carving: str = "default"
    storage: str = "array"
    n_epochs: int = 1


@dataclass(frozen=True)
class MemoryFigures:
    """What a fit took.

    Attributes
    ----------
    array_mb : float
        Size of X.
    peak_mb : float
        Peak of the resident memory above what it was before the fit, X included there unless memory-mapped.
    own_peak_mb : float
        The same without pages of files, which the kernel takes back when it wants (sampled every 5 ms).
    epoch_seconds, fixed_seconds : float
        Of the last epoch, and of the fit besides its epochs.
    """

    case: MemoryCase
    array_mb: float
    peak_mb: float
    own_peak_mb: float
    epoch_seconds: float
    fixed_seconds: float


def cases(*, quick: bool = False) -> list[MemoryCase]:
    """Return the fits that are measured."""
    if quick:
        return [MemoryCase(5_000, weighting="none"), MemoryCase(5_000, "float64", "hu", storage="memory-map")]
    sizes = [10_000, 100_000, 1_000_000, 4_000_000]
    middle = sizes[-2]
    growing = [MemoryCase(n, weighting=w) for n in sizes for w in ("none", "hu", "ours")]
    dtypes = [MemoryCase(middle, dtype=d) for d in ("float64", "int64", "float16")]
    weightings = [MemoryCase(middle, weighting=w) for w in WEIGHTINGS if w not in ("none", "hu", "ours")]
    carvings = [MemoryCase(middle, carving=c) for c in CARVINGS if c != "default"]
    mapped = [
        MemoryCase(sizes[-1], dtype=d, storage="memory-map", weighting="hu") for d in ("float32", "float64")
    ]
    return [*growing, *dtypes, *weightings, *carvings, *mapped]


def measure_memory(case: MemoryCase) -> MemoryFigures:
    """Fit in a process of its own and return what it took."""
    command = [sys.executable, "-m", "benchmarks.timing.memory", json.dumps(asdict(case))]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case}: {done.stderr.strip().splitlines()[-1]}")
    return MemoryFigures(case, **json.loads(done.stdout.splitlines()[-1]))


def _fit_and_tell(case: MemoryCase) -> dict[str, float]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        x, y = _rows(case, Path(folder))
        _fit(case, x[:4096], y[:4096])  # libraries load and caches fill before the measurement
        before, own_before = psutil.Process().memory_info().rss, _own_memory()
        _reset_peak()
        begin = time.perf_counter()
        with _OwnPeak() as own:
            clf = _fit(case, x, y)
        total = time.perf_counter() - begin
        durations = clf.history[:, "dur"]
        return {
            "array_mb": x.nbytes / 1e6,
            "peak_mb": (_peak() - before) / 1e6,
            "own_peak_mb": (own.peak - own_before) / 1e6,
            "epoch_seconds": durations[-1],
            "fixed_seconds": total - sum(durations),
        }


def _rows(case: MemoryCase, folder: Path) -> tuple[Any, Any]:
    """Rows and labels, filled in blocks so that making them leaves no peak behind."""
    generator = np.random.default_rng(0)
    shape = (case.n_rows, N_COLUMNS)
    if case.storage == "memory-map":
        x: Any = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=case.dtype, shape=shape)
    else:
        x = np.empty(shape, dtype=case.dtype)
    for start in range(0, case.n_rows, 50_000):
        block = x[start : start + 50_000]
        noise = generator.standard_normal(block.shape, dtype=np.float32)
        block[:] = noise if x.dtype.kind == "f" else np.rint(3 * noise)
    y = (generator.random(case.n_rows) < 0.05).astype(np.int64)
    y[:100] = np.arange(100) % 2
    if case.storage == "memory-map":
        x.flush()
        del x
        x = np.load(folder / "x.npy", mmap_mode="r")
    return x, y


def _fit(case: MemoryCase, x: Any, y: Any) -> ReweightedClassifier:
    validation_data = CARVINGS[case.carving]
    if validation_data == "splitter":
        from sklearn.model_selection import StratifiedShuffleSplit

        validation_data = StratifiedShuffleSplit(1, test_size=1_000, random_state=0)
    return ReweightedClassifier(
        MLP,
        weighting=case.weighting,
        validation_data=validation_data,
        warmup_epochs=0,
        max_epochs=case.n_epochs,
        batch_size=BATCH_SIZE,
        lr=1e-3,
        random_state=0,
    ).fit(x, y)


def _reset_peak() -> None:
    """Make the kernel forget the peak so far (Linux; elsewhere the process's whole peak counts)."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")


def _status(name: str) -> int | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return None


def _peak() -> int:
    peak = _status("VmHWM")
    return peak if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _own_memory() -> int:
    """Resident memory that is no file's."""
    return _status("RssAnon") or psutil.Process().memory_info().rss


class _OwnPeak:
    """Watches `_own_memory` from a thread; ``peak`` is the most it saw."""

    def __enter__(self) -> _OwnPeak:
        self.peak = _own_memory()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.peak = max(self.peak, _own_memory())

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


if __name__ == "__main__":
    print(json.dumps(_fit_and_tell(MemoryCase(**json.loads(sys.argv[1])))))

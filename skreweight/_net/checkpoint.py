"""One file from which a training that was killed goes on: written whole or not at all."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

#: What a file says of itself.
FORMAT = "skreweight checkpoint 1"
#: Seconds after which a temporary file that a killed process left behind is taken away.
LEFT_BEHIND = 3600.0


class CheckpointFile:
    """A file with the state of one or several runs of training that follow one another.

    It is written under a temporary name in the same folder, brought to the disk and renamed, so that whatever is
    found under its name is complete. It holds plain values and tensors only: reading it runs no code.

    Parameters
    ----------
    path : str or path
        Its folder is made where it is missing.
    every : int, default=1
        After how many epochs it is written; in any case after the last one of a run.
    writes : bool, default=True
        Whether this process writes it. Of several processes that train one network all read it and one writes.

    Attributes
    ----------
    start : dict
        What the fit began with (seeds), where there is a file; else empty.

    Raises
    ------
    ValueError
        Where something else is found under its name.
    """

    def __init__(self, path: Any, every: int = 1, *, writes: bool = True) -> None:
        self.path, self.every, self.writes = Path(path), int(every), writes
        if self.path.is_dir():
            raise ValueError(f"checkpoint={str(path)!r} is a folder: name a file in it.")
        self.start: dict[str, Any] = {}
        self._fingerprint: dict[str, str] = {}
        self._runs: dict[int, bytes] = {}
        self._n_runs = 0
        self._is_tried = False
        if self.path.exists():
            found = self._read()
            self._fingerprint, self.start = found["fingerprint"], found["start"]
            self._runs = {number: bytes(run.numpy()) for number, run in found["runs"].items()}

    def _read(self) -> dict[str, Any]:
        about = f"checkpoint={str(self.path)!r} is no checkpoint of skreweight, or is cut short"
        advice = "Delete it, or name another path."
        raw = self.path.read_bytes()
        try:
            found = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # torch raises many kinds for what is no file of its own
            raise ValueError(f"{about} ({type(error).__name__}). {advice}") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"{about}. {advice}")
        return found

    def belongs_to(self, fingerprint: Mapping[str, str], start: Mapping[str, Any]) -> None:
        """Say what fit this is, before its first run.

        Parameters
        ----------
        fingerprint : mapping of str to str
            Everything that the training depends on, by the name that a user knows it by.
        start : mapping
            Plain values that the fit begins with.

        Raises
        ------
        ValueError
            Where the file is that of another fit; says in what they differ.
        """
        theirs = self._fingerprint
        if theirs:
            other = [k for k in (*fingerprint, *theirs) if fingerprint.get(k) != theirs.get(k)]
            if other:
                names = list(dict.fromkeys(other))
                told = "; ".join(_difference(k, theirs.get(k), fingerprint.get(k)) for k in names[:4])
                more = f"; and {len(names) - 4} more" if len(names) > 4 else ""
                raise ValueError(
                    f"checkpoint={str(self.path)!r} is of another fit, which differs in {told}{more}. Fit with what it "
                    "was made with, delete the file, or name another path."
                )
            return
        self._fingerprint, self.start = dict(fingerprint), dict(start)
        if self.writes:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def next_run(self) -> RunCheckpoint:
        """Return what the next run of the fit finds, and saves to; runs come in the same order every time."""
        self._n_runs += 1
        return RunCheckpoint(self, self._n_runs - 1)

    def of_run(self, number: int) -> dict[str, Any] | None:
        """Return the state of a run, or None where the file has none."""
        if number not in self._runs:
            return None
        state: dict[str, Any] = torch.load(
            io.BytesIO(self._runs[number]), map_location="cpu", weights_only=True
        )
        return state

    def write(self, number: int, state: Mapping[str, Any]) -> None:
        """Write the state of a run, with those of the runs before it.

        Raises
        ------
        OSError
            Where it cannot be written, as on a full disk; the file that was there is left as it was.
        ValueError
            Where the state has more than plain values and tensors.
        """
        if not self.writes:
            return
        packed = _packed(state)
        if not self._is_tried:
            self._is_tried = True
            _try_to_load(packed)
        self._runs = {**{k: run for k, run in self._runs.items() if k < number}, number: packed}
        whole = {
            "format": FORMAT,
            "fingerprint": self._fingerprint,
            "start": self.start,
            "runs": {k: torch.frombuffer(bytearray(run), dtype=torch.uint8) for k, run in self._runs.items()},
        }
        write_whole(self.path, _packed(whole))


class RunCheckpoint:
    """One run's part of a `CheckpointFile`.

    Attributes
    ----------
    saved : dict or None
        The state in which the run is to go on; None: it begins.
    """

    def __init__(self, file: CheckpointFile, number: int) -> None:
        self._file, self._number = file, number
        self._n_epochs = 0
        self.saved = file.of_run(number)

    def after_epoch(self, state: Callable[[], Mapping[str, Any]], *, last: bool) -> None:
        """Save the state after an epoch, if it is time to.

        Parameters
        ----------
        state : callable () -> mapping
            Asked only where it is saved.
        last : bool
            Whether it was the run's last epoch.
        """
        self._n_epochs += 1
        if last or self._n_epochs % self._file.every == 0:
            self._file.write(self._number, state())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context that yields another name in the same folder, and puts what is written there in the place of `path`.

    Where anything fails, what is under `path` is left as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _bring_folder_to_disk(path.parent)
    _take_away_leftovers(path)


def write_whole(path: Path, data: bytes) -> None:
    """Put data under a name, or leave what is there.

    Raises
    ------
    OSError
        Of the kind the system reports; names the file that is left.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        left = "the one that was there is left as it was" if path.exists() else "there was none before"
        raise OSError(
            error.errno,
            f"The checkpoint could not be written ({error.strerror}), {left}. Make room, or name another path",
            str(path),
        ) from error


def _bring_folder_to_disk(folder: Path) -> None:
    """Make the renaming last through a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    with suppress(OSError):  # some network file systems have no such thing
        os.fsync(handle)
    os.close(handle)


def _take_away_leftovers(path: Path) -> None:
    """Delete temporary files of processes that were killed while they wrote."""
    for file in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            if time.time() - file.stat().st_mtime > LEFT_BEHIND:
                file.unlink()
        except OSError:
            continue  # another process was faster


def _packed(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def _try_to_load(packed: bytes) -> None:
    try:
        torch.load(io.BytesIO(packed), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            "The state of this training cannot be held by a checkpoint, which takes plain values and tensors only "
            f"({str(error).splitlines()[0]}). Train without checkpoint=, "
            "or let the optimiser and the callbacks hold such values."
        ) from error


def _difference(name: str, theirs: str | None, ours: str | None) -> str:
    if theirs is None or ours is None or max(len(theirs), len(ours)) > 60:
        return name
    return f"{name} ({theirs} in the file, {ours} now)"

"""A fit that ends with the process, in the moment after a checkpoint was written."""

from pathlib import Path

import pytest

from skreweight._net import checkpoint


class Cut(BaseException):
    """The process ends here."""


def cut_after(n: int, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Let the n-th writing from now on be the last thing that happens; return the paths as they are written."""
    real, written = checkpoint.write_whole, []

    def write(path, data):
        real(path, data)
        written.append(path)
        if len(written) == n:
            monkeypatch.setattr(checkpoint, "write_whole", real)
            raise Cut

    monkeypatch.setattr(checkpoint, "write_whole", write)
    return written

"""A CSV file that a run appends to, and that a run which was cut off goes on from.

``python -m benchmarks.results_file docs/results/noise.csv`` packs it (gzip), as large ones lie in docs/results; all
that read or go on from the file find the packed one.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def whole_rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows as text; a last line that was cut off is left out, a missing file has none.

    A file that is not there is read from its packed form, ``path`` with ".gz".

    Raises
    ------
    ValueError
        Where the file has other columns.
    """
    if not path.exists() and not _packed(path).exists():
        return pd.DataFrame(columns=list(columns))
    with path.open(newline="") if path.exists() else gzip.open(_packed(path), "rt", newline="") as file:
        header, *lines = list(csv.reader(file)) or [list(columns)]
    if header != list(columns):
        raise ValueError(f"{path} has other columns than this version writes: choose another --out.")
    return pd.DataFrame([line for line in lines if len(line) == len(columns)], columns=list(columns))


def appended(rows: Iterable[Mapping[str, Any]], path: Path, columns: Sequence[str]) -> Iterator[None]:
    """Write each row as it comes, after whole lines only; a packed file is unpacked first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and _packed(path).exists():
        path.write_bytes(gzip.decompress(_packed(path).read_bytes()))
        _packed(path).unlink()
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("a") as file:
            file.write("\n")
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        if file.tell() == 0:
            writer.writeheader()
        for row in rows:
            writer.writerow(row)
            file.flush()
            yield


def pack(path: Path) -> Path:
    """Put a file into its packed form, the same bytes for the same rows, and return that."""
    # Without a time, and without the system's name, which byte 9 holds: one file has one packed form everywhere.
    packed = bytearray(gzip.compress(path.read_bytes(), mtime=0))
    packed[9] = 255
    _packed(path).write_bytes(packed)
    path.unlink()
    return _packed(path)


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(pack(Path(argument)))

"""A CSV file that a run appends to, and that a run which was cut off goes on from."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def whole_rows(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the rows as text; a last line that was cut off is left out, a missing file has none.

    Raises
    ------
    ValueError
        Where the file has other columns.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(columns))
    with path.open(newline="") as file:
        header, *lines = list(csv.reader(file)) or [list(columns)]
    if header != list(columns):
        raise ValueError(f"{path} has other columns than this version writes: choose another --out.")
    return pd.DataFrame([line for line in lines if len(line) == len(columns)], columns=list(columns))


def appended(rows: Iterable[Mapping[str, Any]], path: Path, columns: Sequence[str]) -> Iterator[None]:
    """Write each row as it comes, after whole lines only."""
    path.parent.mkdir(parents=True, exist_ok=True)
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

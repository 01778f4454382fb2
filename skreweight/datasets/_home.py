"""Where data files are looked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sklearn.datasets import get_data_home

VARIABLE = "SKREWEIGHT_DATA"

DataHome = str | os.PathLike[str] | None


def data_homes(data_home: DataHome) -> Iterator[Path]:
    """Yield the folders to look in, best first.

    A folder given by the caller is the only one; otherwise the folder that the environment variable
    SKREWEIGHT_DATA names, then scikit-learn's cache.
    """
    if data_home is not None:
        yield Path(data_home).expanduser()
        return
    if os.environ.get(VARIABLE):
        yield Path(os.environ[VARIABLE]).expanduser()
    # Asked for last, because scikit-learn creates its folder when asked where it is.
    yield Path(get_data_home())


def find_file(candidates: Iterable[str], data_home: DataHome) -> Path | None:
    """Return the first existing file among relative paths, tried in order in each folder of `data_homes`."""
    names = list(candidates)
    for home in data_homes(data_home):
        for name in names:
            if (home / name).is_file():
                return home / name
    return None


def where(data_home: DataHome) -> str:
    """Return the folders of `data_homes` in words, for error messages."""
    return " or ".join(str(home) for home in data_homes(data_home))


HOW_TO_POINT = f"give data_home= or set {VARIABLE} to the folder that has it"

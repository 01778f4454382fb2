"""Argument checks and file reading that the loaders share."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Raise ValueError when a parameter is not one of its choices."""
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {listed}, got {value!r}.")


def read_npz(path: Path, keys: Collection[str]) -> dict[str, Any]:
    """Return the named arrays of an npz file; pickled objects are refused."""
    try:
        # Opened here: NumPy leaves a damaged archive open when it is given the path.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in keys}
    # A file of another kind makes np.load return something that is no context manager: TypeError.
    except (ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is damaged or foreign (got {error}), expected an npz file with the arrays {', '.join(keys)}."
        ) from error

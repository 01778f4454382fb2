"""What all tests share: one torch thread, repeatable hypothesis, and the folder of real data."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the workers of pytest-xdist share the cores

# A training step takes as long as it takes (no deadline), and a failure must come again (derandomize).
settings.register_profile("skreweight", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("skreweight")


@pytest.fixture(scope="session")
def data_home() -> Path:
    """Return the folder of real data sets that SKREWEIGHT_DATA names, or skip."""
    named = os.environ.get("SKREWEIGHT_DATA")
    if not named:
        pytest.skip("SKREWEIGHT_DATA is not set: it names a folder with the real data sets")
    if not Path(named).is_dir():
        pytest.skip(f"SKREWEIGHT_DATA names {named}, which is no folder")
    return Path(named)


@pytest.fixture(scope="session")
def data_file(data_home: Path) -> Callable[[str], Path]:
    """Return a function that finds a file of `data_home`, or skips."""

    def find(name: str) -> Path:
        path = data_home / name
        if not path.exists():
            pytest.skip(f"the folder of SKREWEIGHT_DATA has no {name}")
        return path

    return find

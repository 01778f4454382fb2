"""Which versions figures are of."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import skreweight


def _commit(root: Path) -> str:
    """Return the commit of a checkout, "+" where files differ from it; "" outside of one."""
    try:
        asked = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
        found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" (commit {found})"


#: As the process began: a long run may end on another one.
COMMIT = _commit(Path(__file__).parents[1])


def in_words(packages: Iterable[str]) -> str:
    """Return "skreweight 0.2.0.dev0 (commit 1a2b3c4), torch 2.13.0, ...": what this process runs.

    The package's own version is that of its code: an editable installation may remember an older one.
    """
    return ", ".join([f"skreweight {skreweight.__version__}{COMMIT}", *(f"{p} {_of(p)}" for p in packages)])


def _of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

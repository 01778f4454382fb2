"""Whether a tag may become a release: ``python .github/check_release.py v0.2.0``; needs nothing but Python."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlparse

ROOT = Path(__file__).resolve().parent.parent


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return what keeps the tag from being the release of the tree under `root`, a sentence each."""
    version = _found(r'^__version__ = "(.*)"$', root / "skreweight" / "__init__.py")
    sections = re.findall(r"^## \[(.+?)\](?: - (.+))?$", _text(root / "CHANGELOG.md"), re.MULTILINE)
    (first, _), (latest, day) = (*sections, ("", ""), ("", ""))[:2]
    with open(root / "pyproject.toml", "rb") as file:
        repository = tomllib.load(file)["project"]["urls"]["Repository"]
    cited = {name: _found(rf"^{name}: *(.*)$", root / "CITATION.cff") for name in CITED}
    expected = dict(zip(CITED, (version, day, repository), strict=True))

    found = []
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        found.append(f"skreweight.__version__ must be three numbers, got {version!r}.")
    if tag != f"v{version}":
        found.append(f"The tag must be {f'v{version}'!r}, got {tag!r}.")
    if first != "Unreleased" or latest != version or not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
        found.append(
            f"CHANGELOG.md must have [Unreleased] and then [{version}] with its date, got [{latest}] {day}."
        )
    if is_placeholder(repository):
        found.append(f"The repository in pyproject.toml must have a public address, got {repository!r}.")
    for name, value in cited.items():
        if value != expected[name]:
            found.append(f"{name} in CITATION.cff must be {expected[name]!r}, got {value!r}.")
    return found


#: What CITATION.cff must say of a release: its version, its day in the changelog, and pyproject.toml's repository.
CITED = ("version", "date-released", "repository-code")


def is_placeholder(url: str) -> bool:
    """Return whether an address is one that no host can have: ".invalid" is reserved for that (RFC 2606)."""
    return (urlparse(url).hostname or "").endswith(".invalid")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _found(pattern: str, path: Path) -> str:
    """Return the first group in a file, or "" where there is none."""
    match = re.search(pattern, _text(path), re.MULTILINE)
    return match.group(1).strip() if match else ""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit("\n".join(problems(sys.argv[1])) or None)

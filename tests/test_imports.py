"""Imports point one way, type-only imports included."""

import ast
from pathlib import Path

import pytest

import skreweight

ROOT = Path(skreweight.__file__).parent
MAY_IMPORT = {
    "_names": set(),
    "core": set(),
    "losses": set(),
    "modules": {"core"},
    "_rows": {"core"},
    "weighting": {"core", "losses", "_names"},
    "_training": {"weighting", "_rows", "core"},
    "_net": {"_rows", "modules", "losses", "_names"},
    "_listener": {"_net", "_rows", "_training"},
    "_checks": {"_net", "_rows", "_training", "losses", "weighting"},
    "_composition": {"_checks", "_listener", "_net", "_rows", "_training", "weighting", "core"},
    "_classifier": {"_checks", "_composition", "_net", "_rows", "_training", "weighting"},
    "preprocessing": set(),
    "_ensemble": {
        "_classifier",
        "_names",
        "_net",
        "_pack",
        "_rows",
        "_training",
        "core",
        "modules",
        "preprocessing",
        "weighting",
    },
    "_pack": {
        "_classifier",
        "_composition",
        "_listener",
        "_net",
        "_rows",
        "_training",
        "weighting",
        "core",
    },
    "model_selection": {"_pack", "_classifier", "_training"},
}


def imported_by(file: Path) -> set[str]:
    """Parts of the package that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "skreweight":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skreweight."):
            found.add(str(node.module).split(".")[1])
    return found


def files_of(part: str) -> list[Path]:
    folder = ROOT / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part: str) -> None:
    files = files_of(part)
    assert files
    for file in files:
        assert imported_by(file) <= MAY_IMPORT[part] | {part}, file


def test_every_private_part_is_in_the_table() -> None:
    private = {p.stem for p in ROOT.glob("_*") if not p.stem.startswith("__")}
    assert private <= set(MAY_IMPORT)
    assert len(private) <= 10


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_long(file: Path) -> None:
    if file.name == "losses.py":
        pytest.skip("one criterion after another, each with its docstring")
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 420

"""The recipe of docs/development.md, applied word for word to a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import skreweight

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_weighting_as_the_page_has_it(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    section = page[page.index("## Adding a weighting") :]
    method, imported, entry = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    package = tmp_path / "skreweight"
    shutil.copytree(Path(skreweight.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tests", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (package / "weighting" / "_small_loss.py").write_text(method, encoding="utf-8")
    registry = package / "weighting" / "__init__.py"
    text = registry.read_text(encoding="utf-8")
    last = "from skreweight.weighting._step import Step\n"
    assert last in text
    text = text.replace(last, imported + last)
    before, after = text.split("WEIGHTINGS: dict[str, type[Weighting]] = {\n")
    registry.write_text(
        f"{before}WEIGHTINGS: dict[str, type[Weighting]] = {{\n{entry}{after}", encoding="utf-8"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "small-loss or SmallLoss",
    ]
    checks = ["test_common.py", "test_packs.py", "test_lifecycle.py", "test_sample_weight.py", "test_costs.py",
              "test_devices.py", "weighting"]  # fmt: skip
    tests = [f"tests/{name}" for name in checks]
    doctests = ["--doctest-modules", "skreweight/weighting/_small_loss.py"]
    ran = subprocess.run(
        [*command, *tests, *doctests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed.group(1)) > 40

"""The scripts of examples/, and the code on pages of docs/, run to their end."""

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GALLERY = sorted((ROOT / "examples").glob("plot_*.py"))
EXAMPLES = sorted(set((ROOT / "examples").glob("*.py")) - set(GALLERY))
DOCS = ROOT / "docs"


def run(code: list[str], folder: Path, **variables: str) -> str:
    """Run Python in an empty folder, with one thread; return what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, *code], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_there_are_examples():
    assert {p.stem for p in EXAMPLES} >= {"quickstart", "aps_failure", "scikit_learn_tour"}
    assert len(GALLERY) >= 12


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example(script, tmp_path):
    assert run([str(script)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("script", GALLERY, ids=lambda p: p.stem)
def test_script_of_the_gallery(script, tmp_path):
    """It runs without a warning, in less than half a minute of one core."""
    allowed = ("torch.jit.script", "FigureCanvasAgg is non-interactive")
    flags = ["-W", "error", *(part for text in allowed for part in ("-W", f"ignore:{text}"))]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run([*flags, str(script)], tmp_path, MPLBACKEND="Agg")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30


def blocks(text: str) -> list[str]:
    """Return the fenced Python blocks of a Markdown file."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "at_least"), [("guide", 10), ("start", 1), ("coming_from", 2)])
def test_the_code_of_a_page_runs(page, at_least, tmp_path):
    code = blocks((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert len(code) >= at_least
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(code), encoding="utf-8")
    run(["-W", "error", "-W", "ignore:.*torch.jit.script:DeprecationWarning", str(script)], tmp_path)

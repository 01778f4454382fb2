"""The README's example is examples/quickstart.py, and the demo finds its way without its data."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def assignments(code):
    """Return what is assigned to each name, as text without the layout."""
    found = {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.dump(node.value)
    return found


def test_quickstart_is_the_example_of_the_readme():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    readme = assignments(next(block for block in blocks if "GridSearchCV" in block))
    quickstart = assignments((ROOT / "examples" / "quickstart.py").read_text("utf-8"))
    assert set(readme) == {"clf", "grid"}
    assert readme == {name: quickstart[name] for name in readme}


@pytest.mark.slow
def test_the_code_of_the_readme_runs():
    """All of it, in its order; the grids with two epochs a fit, which is what makes them long."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 3
    short, n = re.subn(
        r'(ReweightedClassifier\(weighting="ours")', r"\1, warmup_epochs=1, max_epochs=1", blocks[1]
    )
    assert n == 1
    done: dict = {}
    exec(blocks[0], done)
    assert done["clf"].oof_proba_.shape == (len(done["y"]), 2)
    exec(short, done)
    plain = done["grid"]
    exec(blocks[2], done)
    assert len(done["grid"].cv_results_["params"]) == len(plain.cv_results_["params"]) == 21
    assert done["grid"].best_estimator_[-1].example_weights_.shape == (len(done["y"]),)


@pytest.mark.slow
def test_table_in_one_line_runs_without_the_data(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import table_in_one_line

    def no_data(*args, **kwargs):
        raise OSError("no file and no network")

    monkeypatch.setattr(table_in_one_line, "fetch_aps_failure", no_data)
    figure = tmp_path / "figure.png"
    monkeypatch.setattr(sys, "argv", ["table_in_one_line.py", "--out", str(figure)])
    table_in_one_line.main()
    printed = capsys.readouterr().out
    assert "No APS data: no file and no network" in printed
    assert str(figure) in printed and figure.read_bytes().startswith(b"\x89PNG")
    for label in ("ensemble", "boosted trees, balanced", "balanced forest"):
        assert label in printed


@pytest.mark.slow
def test_aps_failure_runs_without_the_data(monkeypatch, tmp_path, capsys):
    """It says that there is none, and goes through on bundled data."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import aps_failure

    def no_data(*args, **kwargs):
        raise OSError("no file and no network")

    monkeypatch.setattr(aps_failure, "fetch_aps_failure", no_data)
    monkeypatch.setattr(aps_failure, "N_JOBS", 1)
    figure = tmp_path / "figure.png"
    monkeypatch.setattr(sys, "argv", ["aps_failure.py", "--quick", "--out", str(figure)])
    aps_failure.main()
    printed = capsys.readouterr().out
    assert "No APS data: no file and no network" in printed
    assert str(figure) in printed and figure.read_bytes().startswith(b"\x89PNG")
    for label in ("none, tuned threshold", "proportion + validation rows", "ours, tuned", "absgd, tuned"):
        assert label in printed


def test_geometric_mean_without_imbalanced_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn", None)
    monkeypatch.setitem(sys.modules, "imblearn.metrics", None)
    without = runpy.run_path(str(ROOT / "examples" / "aps_failure.py"))["geometric_mean_score"]
    truth = ["neg", "neg", "neg", "pos", "pos"]
    assert without(truth, ["neg", "neg", "pos", "pos", "neg"]) == pytest.approx((2 / 3 * 1 / 2) ** 0.5)

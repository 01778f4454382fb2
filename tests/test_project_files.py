"""Files that other programs read: the citation, the hosted checks, the hooks, the forms."""

import re
from pathlib import Path

import pytest

import skreweight

ROOT = Path(__file__).resolve().parent.parent


def load(path: str) -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_citation_has_this_version_and_both_papers():
    cited = load("CITATION.cff")
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert cited["version"] == skreweight.__version__
    titles = " ".join(paper["title"].lower() for paper in cited["references"])
    assert "learning example weights" in titles and "attentional biased stochastic gradient" in titles


def test_the_hosted_checks_run_make_test():
    jobs = load(".github/workflows/test.yml")["jobs"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"make test", "make docs"} <= commands
    assert {command.removeprefix("make ") for command in commands} <= targets


def test_hooks_have_a_name_and_a_command():
    for repository in load(".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local" or repository["rev"]
        for hook in repository["hooks"]:
            assert hook["id"] and (
                repository["repo"] != "local" or {"name", "entry", "language"} <= set(hook)
            )


@pytest.mark.parametrize("form", ["bug", "proposal"])
def test_issue_forms_ask_something(form):
    body = load(f".github/ISSUE_TEMPLATE/{form}.yml")["body"]
    assert any(part["type"] in ("textarea", "input") for part in body)


def test_the_changelog_begins_with_what_is_unreleased_and_dates_the_rest():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *released = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "[Unreleased]" and skreweight.__version__.endswith(".dev0")
    assert released and all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", one) for one in released)

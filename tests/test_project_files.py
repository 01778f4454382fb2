"""Files that other programs read: the citation, the hosted checks, the hooks, the forms."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

import skreweight

ROOT = Path(__file__).resolve().parent.parent
CHECK = runpy.run_path(str(ROOT / ".github" / "check_release.py"))


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


def addresses() -> dict[str, str]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["project"]["urls"]


def test_addresses_are_written_in_one_place():
    own = addresses()
    assert all(url.startswith(own["Repository"]) for url in own.values())
    cited = load("CITATION.cff").get("repository-code")
    assert cited == (None if CHECK["is_placeholder"](own["Repository"]) else own["Repository"])
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob(".github/**/*.*"),
        ROOT / "docs" / "conf.py",
    ]
    for page in pages:
        found = re.findall(r"https?://[^\s)>\"'`]+/skreweight\b", page.read_text(encoding="utf-8"))
        assert set(found) <= {own["Repository"]}, page


def released(folder: Path) -> Path:
    """Return a copy of what the check reads, as it is on the day of a release."""
    (folder / "skreweight").mkdir()
    (folder / "skreweight" / "__init__.py").write_text('__version__ = "9.1.0"\n')
    (folder / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [9.1.0] - 2030-01-02\n\n## [0.1.0] - 2026-11-22\n"
    )
    (folder / "CITATION.cff").write_text(
        "version: 9.1.0\ndate-released: 2030-01-02\nrepository-code: https://github.com/someone/skreweight\n"
    )
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        text.replace(addresses()["Repository"], "https://github.com/someone/skreweight"), encoding="utf-8"
    )
    return folder


def test_a_tag_that_agrees_is_a_release(tmp_path):
    assert CHECK["problems"]("v9.1.0", released(tmp_path)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("skreweight/__init__.py", "9.1.0", "9.2.0", "The tag must be 'v9.2.0', got 'v9.1.0'."),
        ("skreweight/__init__.py", "9.1.0", "9.1.0.dev0", "must be three numbers, got '9.1.0.dev0'."),
        ("CHANGELOG.md", " - 2030-01-02", "", "with its date, got [9.1.0] ."),
        ("CHANGELOG.md", "## [9.1.0]", "## [9.0.0]", "and then [9.1.0] with its date, got [9.0.0]"),
        ("CITATION.cff", "version: 9.1.0", "version: 9.0.0", "version in CITATION.cff must be '9.1.0', got '9.0.0'."),
        ("CITATION.cff", "2030-01-02", "2030-01-03", "date-released in CITATION.cff must be '2030-01-02'"),
        ("CITATION.cff", "github.com/someone", "github.com/other", "repository-code in CITATION.cff must be"),
        ("pyproject.toml", "github.com/someone", "repository.invalid", "must have a public address, got"),
    ],
)  # fmt: skip
def test_a_tag_that_disagrees_is_none(file, old, new, says, tmp_path):
    path = released(tmp_path) / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert any(says in sentence for sentence in CHECK["problems"]("v9.1.0", tmp_path))


def test_the_release_asks_before_it_builds():
    jobs = load(".github/workflows/release.yml")["jobs"]
    commands = [step["run"] for step in jobs["build"]["steps"] if "run" in step]
    asked = commands.index('python .github/check_release.py "$GITHUB_REF_NAME"')
    assert asked < commands.index("make test") < commands.index("python -m build")
    assert jobs["publish"]["needs"] == "build"

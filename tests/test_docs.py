"""The documentation builds without a warning, and no link in it leads nowhere."""

import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import ModuleInfo, walk_packages
from urllib.parse import unquote, urldefrag, urlparse

import pytest

import skreweight
from tests.test_documented import methods_of, public_objects

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NEEDED = (
    "sphinx",
    "sphinx_gallery",
    "pydata_sphinx_theme",
    "sphinx_design",
    "sphinx_copybutton",
    "myst_parser",
)
SOURCES = ("docs", "examples", "pyproject.toml", "CHANGELOG.md", "CONTRIBUTING.md")


class Page(HTMLParser):
    """The links of a page, and the anchors that others may link to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.anchors |= {named[key] for key in ("id", "name") if named.get(key)}
        for key in ("href", "src"):
            if named.get(key):
                self.links.add(named[key])


def broken_links(folder: Path) -> list[str]:
    """Return "page: link" for every link inside the folder that has no target."""
    found = (path for path in folder.rglob("*.html") if "_static" not in path.parts)  # templates of the theme
    pages = {path: Page(path) for path in found}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if urlparse(link).scheme or link.startswith("//"):
                continue
            file, anchor = urldefrag(link)
            target = (path.parent / unquote(file).split("?")[0]).resolve() if file else path
            missing = not target.exists() or (
                anchor and target in pages and anchor not in pages[target].anchors
            )
            if missing:
                broken.append(f"{path.relative_to(folder)}: {link}")
    return sorted(broken)


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="x"><a href="b.html#y">1</a><a href="b.html#z">2</a><img src="c.png">'
    )
    (tmp_path / "b.html").write_text('<p id="y"><a href="https://x.org">3</a><a href="a.html?v=1#x">4</a>')
    assert broken_links(tmp_path) == ["a.html: b.html#z", "a.html: c.png"]


def slugs(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a Markdown file."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links_of_markdown(page: Path) -> list[str]:
    text = re.sub(
        r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize(
    "page",
    [
        *ROOT.glob("*.md"),
        *(page for page in DOCS.rglob("*.md") if not {"generated", "auto_examples"} & {*page.parts}),
    ],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_of_files_that_are_read_unbuilt(page):
    for link in links_of_markdown(page):
        if urlparse(link).scheme:
            continue
        file, anchor = urldefrag(link)
        target = (page.parent / unquote(file)).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


def public_names() -> set[str]:
    """Return every class and function that a public module exports, core apart: that is the inside."""
    names = set()
    for found in [ModuleInfo(None, "skreweight", True), *walk_packages(skreweight.__path__, "skreweight.")]:
        if any(part.startswith("_") or part == "core" for part in found.name.split(".")):
            continue
        module = import_module(found.name)
        exported = (getattr(module, name) for name in getattr(module, "__all__", ()))
        names |= {one.__name__ for one in exported if inspect.isclass(one) or inspect.isfunction(one)}
    return names


def test_the_api_pages_list_what_is_public():
    text = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md"))
    listed = {line.strip().rsplit(".", 1)[-1] for line in text.splitlines() if re.match(r"   [\w.]+$", line)}
    assert listed == public_names()


def test_what_a_step_costs_is_read_from_the_page_on_speed(monkeypatch, tmp_path):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(DOCS / "_ext"))
    measured = import_module("measured")
    page = tmp_path / "speed.md"
    page.write_text(
        "- versions: skreweight 9.1, torch 2\n\n## first\n| hand-written loop | 1.00 |\n"
        '| weighting="hu" | 2.50 | 2 to 3 |\n| weighting="hu", 2 constraint steps | 3.50 |\n\n'
        '## second\n| weighting="hu" | 9.00 |\n'
    )
    assert measured.steps("hu", page) == "2.50 steps (skreweight 9.1)"
    assert measured.steps("hu, 2 constraint steps", page) == "3.50 steps (skreweight 9.1)"
    with pytest.raises(ValueError, match="must have a row"):
        measured.steps("ours", page)
    asked = {
        role
        for one in (DOCS / "methods").glob("*.md")
        for role in re.findall(r"{steps}`(.*?)`", one.read_text("utf-8"))
    }
    assert {"none", "hu", "ours"} <= asked and all(measured.steps(method) for method in asked)


@pytest.fixture
def built(tmp_path):
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed: pip install -e '.[docs]'")
    copy, html = tmp_path / "sources", tmp_path / "html"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            made = shutil.ignore_patterns("_build", "generated", "auto_examples", "__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=made)
        else:
            shutil.copy(ROOT / name, copy / name)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(copy / "docs"), str(html)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return html


def asking_a_server(folder: Path) -> list[str]:
    """Return the pages whose styles, scripts (MathJax too) or pictures are not files of the build."""
    asked = re.compile(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?:)?//')
    return [page.name for page in folder.rglob("*.html") if asked.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    ("address", "links"),
    [
        ("https://github.com/someone/skreweight", ["https://github.com/someone/skreweight"]),
        ("https://repository.invalid/skreweight", []),
    ],
)
def test_pages_link_to_a_repository_that_is_public(address, links, monkeypatch, tmp_path):
    jinja2 = pytest.importorskip("jinja2")
    monkeypatch.setattr(sys, "path", [*sys.path])  # the configuration adds to it
    (tmp_path / "docs").mkdir()
    shutil.copy(DOCS / "conf.py", tmp_path / "docs")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = re.sub(r'Repository = "[^"]*"', f'Repository = "{address}"', text)
    (tmp_path / "pyproject.toml").write_text(text, encoding="utf-8")
    configured = runpy.run_path(str(tmp_path / "docs" / "conf.py"))
    assert [icon["url"] for icon in configured["html_theme_options"]["icon_links"]] == links
    footer = jinja2.Template((DOCS / "_templates" / "release.html").read_text(encoding="utf-8"))
    shown = footer.render(
        pathto=lambda page: f"{page}.html", release=configured["release"], **configured["html_context"]
    )
    assert f'<a href="changelog.html">Version {skreweight.__version__}</a>' in shown
    assert [link for link in re.findall(r'href="(.*?)"', shown) if urlparse(link).scheme] == links


def methods_without_a_place(generated: Path) -> list[str]:
    """Return the methods of public classes that have no anchor on their class's page."""
    missing = []
    for name, one in public_objects().items():
        page = generated / f"{name}.html"
        if inspect.isclass(one) and page.exists():
            anchors = Page(page).anchors
            missing += [
                f"{name}.{method}" for method, _ in methods_of(one) if f"{name}.{method}" not in anchors
            ]
    return missing


@pytest.mark.slow
def test_documentation(built):
    """One test, so that the workers build the pages once."""
    assert broken_links(built) == []
    assert asking_a_server(built) == []
    assert methods_without_a_place(built / "generated") == []
    page = built / "generated" / "skreweight.ReweightedClassifier.html"
    listed = {
        anchor.rsplit(".", 1)[-1] for anchor in Page(page).anchors if ".ReweightedClassifier." in anchor
    }
    assert listed >= {"fit", "partial_fit", "predict", "predict_proba", "decision_function", "history_frame"}
    assert not listed & {"set_fit_request", "notify", "run_single_epoch"}
    _, _, of_fit = page.read_text(encoding="utf-8").partition('id="skreweight.ReweightedClassifier.fit"')
    section, _, _ = of_fit.partition('<dt class="sig')
    assert {"X", "y", "sample_weight", "X_val, y_val"} <= set(re.findall(r"<strong>(.*?)</strong>", section))
    assert f"Version {skreweight.__version__}" in (built / "index.html").read_text(encoding="utf-8")

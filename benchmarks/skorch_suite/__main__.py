"""Run skorch's suite twice, with its own class and with ours, and say why each test fails that skorch's class passes.

    pip download --no-deps --no-binary skorch skorch==1.4.0 && tar xf skorch-1.4.0.tar.gz
    python -m benchmarks.skorch_suite skorch-1.4.0/skorch/tests

The tests need the packages ``flaky`` and ``safetensors`` besides. With ``--read FOLDER`` the two reports in a folder
(``stock.xml`` and ``ours.xml``) are read instead. ``--write docs/skorch.md`` puts the counts and every test by its name
into the page, between its marks.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from benchmarks.skorch_suite.reasons import UNEXPLAINED, reason_of

FILES = ("test_classifier.py", "test_net.py", "test_helper.py", "test_dataset.py", "callbacks")
Test = tuple[str, str]


def run(tests: Path, report: Path, *, ours: bool) -> None:
    """Run the files of the suite and write a report."""
    plugin = ["-p", "benchmarks.skorch_suite.in_place"] if ours else []
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(tests),
    ]
    files = [str(tests / name) for name in FILES]
    subprocess.run([*command, *plugin, f"--junitxml={report}", *files], check=False)


def by_reason(reasons: dict[Test, str]) -> str:
    """Return a table of the reasons, the most frequent first, with the tests that have each."""
    lines = ["| tests | why | which |", "|---|---|---|"]
    for reason, count in Counter(reasons.values()).most_common():
        names = sorted(name.removeprefix("test_") for (_, name), why in reasons.items() if why == reason)
        which = ", ".join(f"`{name}`" for name in names).replace("|", "\\|")
        lines.append(f"| {count} | {reason} | {which} |")
    return "\n".join(lines)


def write(page: Path, text: str) -> None:
    """Put a text into a page, between the marks that say where it goes."""
    whole = page.read_text(encoding="utf-8")
    marks = r"(<!-- skorch_suite: begin -->\n).*(<!-- skorch_suite: end -->)"
    filled, found = re.subn(marks, lambda mark: f"{mark[1]}{text}\n{mark[2]}", whole, flags=re.DOTALL)
    if not found:
        raise ValueError(f"{page} must have the marks of skorch_suite, got none.")
    page.write_text(filled, encoding="utf-8")


def failures(report: Path) -> dict[Test, str]:
    """Return the first words of what each test failed with, and nothing for those that passed."""
    found = {}
    for test in ElementTree.parse(report).iter("testcase"):
        bad = [part for part in test if part.tag in ("failure", "error")]
        name = (test.get("classname", "").split(".")[-1], test.get("name", ""))
        found[name] = (bad[0].get("message") or "?").replace("\n", " ") if bad else ""
    return found


def main() -> None:
    """Print a table of reasons with how many tests have each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tests", type=Path, nargs="?", help="folder of skorch's tests")
    parser.add_argument("--write", type=Path, help="page that the table is written into")
    parser.add_argument("--read", type=Path, help="folder with stock.xml and ours.xml")
    args = parser.parse_args()
    folder = args.read or Path(tempfile.mkdtemp())
    if args.read is None:
        # Under a name of their own: as parts of skorch they would be those of the skorch that is installed.
        tests = shutil.copytree(args.tests, folder / "skorch_tests")
        for name in ("stock", "ours"):
            run(tests, folder / f"{name}.xml", ours=name == "ours")
    stock, ours = failures(folder / "stock.xml"), failures(folder / "ours.xml")
    beyond = {test: message for test, message in ours.items() if message and not stock.get(test)}
    reasons = {test: reason_of(test[1], message) for test, message in beyond.items()}
    n_stock = sum(map(bool, stock.values()))
    table = (
        f"Of {len(ours)} tests {n_stock} fail with skorch's own class in this environment, and {len(beyond)} more with "
        f"ours:\n\n{by_reason(reasons)}"
    )
    print(table)
    if args.write is not None:
        write(args.write, table)
    for test, reason in reasons.items():
        if reason == UNEXPLAINED:
            print("unexplained:", *test, beyond[test][:200])


if __name__ == "__main__":
    main()

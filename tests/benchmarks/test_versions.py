"""Pages of results name the code that ran."""

import re

import skreweight
from benchmarks import versions


def test_the_version_is_that_of_the_code():
    words = versions.in_words(["torch", "no-such-package"])
    assert re.match(
        rf"skreweight {re.escape(skreweight.__version__)}( \(commit [0-9a-f]+\+?\))?, torch \d", words
    )
    assert words.endswith(", no-such-package not installed")


def test_outside_of_a_checkout_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert versions._commit(tmp_path) == ""

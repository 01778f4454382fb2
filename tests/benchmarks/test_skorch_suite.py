"""The page's list of skorch's tests that fail with our class: every one by its name, with a reason."""

import re
from pathlib import Path

import pytest

from benchmarks.skorch_suite.__main__ import by_reason, write
from benchmarks.skorch_suite.reasons import REASONS, UNEXPLAINED, reason_of

PAGE = Path(__file__).parents[2] / "docs" / "skorch.md"


def test_every_test_that_fails_is_named_with_its_reason():
    text = PAGE.read_text(encoding="utf-8")
    total = int(re.search(r"and (\d+) more with ours", text)[1])
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (`.+) \|$", text, flags=re.MULTILINE)
    assert {why for _, why, _ in rows} <= {reason for _, _, reason in REASONS}
    counts = [(int(count), len(re.findall(r"`[^`]+`", which))) for count, _, which in rows]
    assert all(count == named for count, named in counts), counts
    assert sum(count for count, _ in counts) == total


def test_a_reason_is_found_by_name_and_failure():
    assert "repr" in reason_of("test_repr_initialized_works", "anything")
    assert reason_of("test_something_new", "AssertionError") == UNEXPLAINED


def test_the_table_names_the_tests(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- skorch_suite: begin -->\n<!-- skorch_suite: end -->\nafter\n")
    table = by_reason({("A", "test_x"): "one", ("A", "test_y[a|b]"): "one", ("B", "test_z"): "two"})
    assert "| 2 | one | `x`, `y[a\\|b]` |" in table
    for text in (table, "else"):
        write(page, text)
        assert page.read_text().startswith(f"before\n<!-- skorch_suite: begin -->\n{text}\n<!--")
    page.write_text("nothing")
    with pytest.raises(ValueError, match="must have the marks"):
        write(page, table)

"""What a step over processes sends, counted, against the formula of docs/scaling.md."""

import re
from pathlib import Path

import pytest

from benchmarks import exchange
from skreweight.weighting import WEIGHTINGS

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def given(weighting: str) -> int:
    trained = exchange.n_trained(weighting, exchange.N_FEATURES, exchange.HIDDEN, 2)
    return exchange.bytes_of_gradients(weighting, trained)


def test_parameters_of_a_chain() -> None:
    assert exchange.n_parameters(3, (4, 5), 2) == 3 * 4 + 4 + 4 * 5 + 5 + 5 * 2 + 2
    assert exchange.n_parameters(171, (100, 100), 2) == 27_502
    assert exchange.n_trained("crt", 171, (100, 100), 2) == 202
    assert given("none") == 4 * 27_502
    assert given("ours") == 16 * 27_502


def test_the_page_has_the_formula_for_every_weighting() -> None:
    """Its table is the script's, with the counts of a run."""
    cells = r"(\d+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| [\d.]+ \|$"
    line = re.compile(r'^\| `"([\w-]+)"` \| ' + cells, re.MULTILINE)
    found = {
        name: [int(n.replace(",", "")) for n in numbers]
        for name, *numbers in line.findall(PAGE.read_text(encoding="utf-8"))
    }
    assert set(found) == set(WEIGHTINGS)
    for name, (vectors, trained, n_bytes, beside) in found.items():
        assert 4 * vectors * trained == given(name) == n_bytes - beside


@pytest.mark.slow
def test_bytes_of_a_step_are_its_gradients_and_some_numbers_a_row() -> None:
    counted = {line["weighting"]: line["bytes"] for line in exchange.run("count", list(WEIGHTINGS))}
    assert set(counted) == set(WEIGHTINGS)
    for name, n_bytes in counted.items():
        beside = n_bytes - given(name)
        assert 0 <= beside < 32 * exchange.BATCH, (
            name,
            beside,
        )  # four float64 a row: far from another vector

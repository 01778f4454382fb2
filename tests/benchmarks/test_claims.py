"""The ablations and the page of claims: figures by hand, and that the page in docs is what the script writes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.paper_tables import ablations, claims
from benchmarks.paper_tables.__main__ import main

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_a_claim_by_hand() -> None:
    claim = claims.Claim("words", "", "10:1000", "liu5", "10:1000", "ours", "two-phase", "why")
    figures = pd.DataFrame(
        [
            (task, method, chosen, "accuracy", mean, 3.0, 9)
            for task, chosen, shift in (
                ("10:1000", "validation", 0),
                ("10:1000", "test", 9),
                ("other", "validation", 9),
            )
            for method, mean in (("ours", 60.0 + shift), ("two-phase", 63.0))
        ],
        columns=["task", "method", "chosen_on", "metric", "mean", "std", "n"],
    )
    row = claims._row(claim, figures)
    assert "+5.3 (80.6, 75.3)" in row and f"-3.0 ± {np.sqrt(2):.1f} (60.0, 63.0)" in row
    assert "| opposite, 9 draws |" in row


def test_a_verdict_wants_two_standard_errors() -> None:
    assert [claims.verdict(5, ours, 1) for ours in (3, 1.9, -1.9, -3)] == ["held", "open", "open", "opposite"]


def test_the_page_in_docs_is_what_the_script_writes() -> None:
    assert (RESULTS / "claims.md").read_text(encoding="utf-8") == claims.page(RESULTS)


def test_arms_differ_in_what_they_are_said_to() -> None:
    damped, without, fixed, plain = (dict(s) for s in ablations.ARMS.values())
    assert (
        damped.pop("optimizer__momentum") == 0.9
        and without.pop("optimizer__momentum") == 0
        and damped == without
    )
    epochs = [s["warmup_epochs"] + s["max_epochs"] for s in ablations.ARMS.values()]
    assert epochs == [60] * 4 and fixed["warmup_epochs"] == 0 and plain["weighting"] == "none"


def test_ablations_score_each_epoch_on_test_rows(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(ablations, "BEFORE", 2)
    monkeypatch.setattr(ablations, "AFTER", 1)
    short = {name: {**s, "warmup_epochs": 2, "max_epochs": 1} for name, s in ablations.ARMS.items()}
    monkeypatch.setattr(ablations, "ARMS", short)
    text = main(["ablations", "--draws", "2", "--out", str(tmp_path)]).read_text(encoding="utf-8")
    rows = pd.read_csv(tmp_path / "ablations.csv")
    assert len(rows) == 2 * 2 * 4 * 3 and (tmp_path / "ablations.png").exists()
    arm = next(iter(short))
    last = rows[(rows["arm"] == arm) & (rows["epoch"] == 3) & (rows["rate"] == 0.1)]["accuracy"]
    assert f"{100 * last.mean():.1f} ± {100 * last.std():.1f}" in text
    # stage 1 is the same plain training for the damped arm and for plain SGD
    at_fall = rows[rows["epoch"] == 2].pivot(index=["rate", "draw"], columns="arm", values="accuracy")
    np.testing.assert_array_equal(at_fall[arm], at_fall[list(short)[3]])

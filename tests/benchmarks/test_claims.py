"""The ablations and the page of claims: figures by hand, and that the page in docs is what the script writes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.paper_tables import ablations, claims, paired
from benchmarks.paper_tables.__main__ import main
from benchmarks.paper_tables.runner import COLUMNS

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


def runs(accuracy: dict[str, list[float]], task: str) -> pd.DataFrame:
    """Single runs of one setting a method; validation figures are the same for all."""
    rows = [
        {"table": "t", "grid": "paper", "task": task, "method": method, "config": "{}", "seed": seed}
        | {"accuracy": value, "tuned_accuracy": value + 0.1, "val_accuracy": 0.5, "val_loss": 0.5}
        for method, values in accuracy.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def test_differences_are_paired_over_draws(tmp_path) -> None:
    rows = runs({"ours": [0.6, 0.7, 0.9], "two-phase": [0.5, 0.5]}, "SST-2 20:1000")
    mean, error, n = paired.difference(rows, "ours", "two-phase")
    assert (mean, n) == (pytest.approx(15), 2) and error == pytest.approx(5)
    without = rows.assign(task="APS, mean imputation")  # the paper has no figures of it: no claim
    pd.concat([rows, without]).to_csv(tmp_path / "grids.csv", index=False)
    text = paired.at_the_papers_grid(tmp_path)
    assert "| ours beats two-phase on SST-2 20:1000 | +0.6 | +15.0 ± 5.0 | +15.0 ± 5.0 |" in text
    assert "1 of 720, 1 of 36; 2 draws |" in text and "Hu et al." not in text and "APS" not in text


def test_other_ways_stand_beside_the_papers(tmp_path) -> None:
    assert paired.other_decisions(tmp_path) == "Not run."
    rows = runs(
        {"ours": [0.6, 0.7], "plain": [0.5, 0.5], "ensemble + validation rows": [0.7, 0.7]}, "20:1000"
    )
    rows.to_csv(tmp_path / "decisions.csv", index=False)
    text = paired.other_decisions(tmp_path)
    assert "| 65.0 ± 7.1 |  | 2 |" in text and "| 70.0 ± 0.0 | +5.0 ± 5.0 | 2 |" in text
    assert "tuned on the validation rows | 60.0 ± 0.0 | -5.0 ± 5.0 | 2 |" in text


def test_absgd_on_reviews_is_compared_at_its_default(tmp_path) -> None:
    assert paired.on_reviews(tmp_path) == "IMDB was not run."
    parts = []
    for loss in ("CE", "Focal", "CB-CE", "CB-Focal"):
        for lam, value in ((1.0, 0.6), (5.0, 0.9)):
            config = json.dumps({"weighting__lam": lam})
            parts.append(runs({f"ABSGD ({loss})": [value, value]}, "half").assign(config=config))
        parts.append(runs({f"SGD ({loss})": [0.5, 0.58]}, "half"))
    pd.concat(parts).to_csv(tmp_path / "imdb.csv", index=False)
    text = paired.on_reviews(tmp_path)
    assert (
        text.count("| +6.0 ± 4.0 | 2 |") == 4 and "| ABSGD (CB-CE) beats SGD (CB-CE) on IMDB | +4.5 |" in text
    )

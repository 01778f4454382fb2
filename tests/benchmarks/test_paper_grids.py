"""The paper's grids in packs: which settings, the fits beside single ones, the ways of choosing, what is resumed."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.paper_grids import cli, fits, plan
from benchmarks.paper_grids.answers import cross_fitted, on_all_draws, paired
from benchmarks.paper_grids.report import write_report
from benchmarks.paper_tables.__main__ import main
from benchmarks.paper_tables.evaluation import evaluate
from benchmarks.paper_tables.protocols import Data
from benchmarks.paper_tables.recipes import Recipe
from benchmarks.paper_tables.runner import COLUMNS, KEY, Run, finished

TASK = "SST-2 20:1000"
RECIPE = Recipe(
    None,
    {"warmup_epochs": 15, "lr": 0.03, "batch_size": 32, "module__hidden": (32,)},
    {"max_epochs": 2, "lr": 0.03, "batch_size": 32},
)


def blobs(seed: int) -> Data:
    rng = np.random.default_rng(seed)

    def rows(n_rare: int, n_common: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat([0, 1], [n_rare, n_common])
        return (rng.normal(size=(len(y), 4)) + 3 * y[:, None]).astype(np.float32), y

    return Data(*rows(30, 80), *rows(5, 5), *rows(40, 40), rare=0)


@pytest.fixture(autouse=True)
def small_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "data_of", lambda task, seed, home: (blobs(seed), RECIPE))


def test_the_grids_are_the_papers() -> None:
    assert len(plan.settings_of("Hu et al. + R")) == 432
    assert len(plan.settings_of("ours")) == 720 and len(plan.settings_of("ours", [1, 5])) == 288
    few = plan.some_of(plan.settings_of("ours", [1, 5]), 5)
    assert len({json.dumps(s) for s in few}) == 5
    assert plan.some_of(few, None) == plan.some_of(few, 9) == few


def test_chunks_hold_every_setting_once_and_never_mix_draws() -> None:
    chunks = plan.chunks([TASK, "APS, mean imputation"], ["plain", "ours"], 2, [1], None, 48)
    runs = [run for chunk in chunks for run in chunk]
    assert len(runs) == len(set(runs)) == 2 * 2 * (1 + 144)
    assert max(map(len, chunks)) == 48
    assert all(len({(r.task, r.method, r.seed) for r in chunk}) == 1 for chunk in chunks)


def test_a_pack_of_settings_is_the_fits_one_by_one() -> None:
    (runs,) = plan.chunks([TASK], ["ours"], 1, [1], 4, 48)
    rows = fits.run_chunk(runs, None, cross_fitted=False)
    data = blobs(0)
    for run, row in zip(runs, rows, strict=True):
        alone = fits.network(run, RECIPE).fit(data.X_train, data.y_train, X_val=data.X_val, y_val=data.y_val)
        figures = evaluate(alone, data)
        assert float(row["val_loss"]) == pytest.approx(figures["val_loss"], rel=1e-3)
        assert float(row["average_precision"]) == pytest.approx(figures["average_precision"], rel=1e-3)
    assert len({row["val_loss"] for row in rows}) > 1


def test_out_of_fold_scores_have_seen_no_row_they_score_and_no_test_row(monkeypatch) -> None:
    (runs,) = plan.chunks([TASK], ["two-phase"], 1, [1], 2, 48)
    seen = []
    fit = fits._fitted

    def spy(nets, tables, rows):
        seen.extend(rows)
        assert len(tables[0].X) == 120  # training and validation rows
        return fit(nets, tables, rows)

    monkeypatch.setattr(fits, "_fitted", spy)
    rows = fits.run_chunk(runs, None, cross_fitted=True)
    assert len(seen) == 2 * fits.N_FOLDS
    counts = np.bincount(np.concatenate(seen[: fits.N_FOLDS]))
    assert (counts == fits.N_FOLDS - 1).all()
    for row in rows:
        assert 0.5 < float(row["val_accuracy"]) <= 1 and "accuracy" not in row


def _row(config: str, seed: int, accuracy: float, val: float) -> dict[str, object]:
    key = dict(zip(KEY, Run("grids", "paper", TASK, "Hu et al.", config, seed), strict=True))
    return key | {"accuracy": accuracy, "val_accuracy": val, "val_loss": 0.1, "seconds": 60.0, "error": ""}


def test_each_way_of_choosing_by_hand(tmp_path) -> None:
    a, b, c = (json.dumps({"weighting__decay": d}) for d in (1.0, 5.0, 10.0))
    figures = {(a, 0): (0.5, 0.9), (b, 0): (0.6, 0.8), (c, 0): (0.7, 0.7)}
    figures |= {(a, 1): (0.8, 0.6), (b, 1): (0.6, 0.9), (c, 1): (0.4, 0.5)}
    rows = pd.DataFrame([_row(*key, *both) for key, both in figures.items()], columns=COLUMNS)
    out_of_fold = rows.assign(accuracy=np.nan, val_accuracy=[0.1, 0.2, 0.3, 0.3, 0.2, 0.1])
    assert cross_fitted(rows, out_of_fold)["accuracy"].tolist() == [0.7, 0.8]
    text = write_report(rows, out_of_fold, tmp_path / "grids.md", ["the command"]).read_text()
    # validation: a then b; cross-fitted: c then a; the default decay is c's; on test: a for both
    assert (
        "| Hu et al. | 55.0 ± 7.1 | 75.0 ± 7.1 | 55.0 ± 21.2 | 65.0 ± 21.2 | 73.6 ± 11.9 | 3 of 3 | 2 |"
        in text
    )
    assert "| Hu et al. | 3 | 60.00 | 3.0 |" in text
    assert f"6 of {5 * 6 * (1 + 1 + 36 + 3 + 432 + 720):,} fits" in text
    assert "Nothing was run of SST-2 100:1000, SST-2 20:1000, TextFCN" in text
    # mean of all: 60 in both draws; on validation 50 and 60, on test 50 and 80, cross-fitted 70 and 80
    assert f"| {TASK} | Hu et al. | 3 | 60.0 | -5.0 ± 5.0 | +10.0 ± 10.0 | 1 | -0.25 |" in text
    assert f"| {TASK} | Hu et al. | 3; 2 | 60.0 | 75.0 | 55.0 | 65.0 | +20.0 ± 0.0 | -10.0 ± 10.0 |" in text


def test_the_ordering_is_paired_and_counted(tmp_path) -> None:
    accuracy = {"two-phase": (0.7, 0.8), "Hu et al.": (0.6, 0.72), "plain": (0.65, 0.8)}
    rows = pd.DataFrame(
        [
            _row("{}", seed, value, 0.5) | {"method": method}
            for method, values in accuracy.items()
            for seed, value in enumerate(values)
        ],
        columns=COLUMNS,
    )
    text = write_report(rows, rows[:0], tmp_path / "grids.md", []).read_text()
    assert "1 of 3 pairs" not in text and "2 of 3 pairs lie in the paper's order, 1 of them" in text
    assert "by as much: plain before Hu et al.." in text
    assert "| two-phase - Hu et al. | +6.9 | +9.0 ± 1.0 | +9.0 ± 1.0 |" in text


def test_a_setting_that_lacks_a_draw_is_left_out() -> None:
    a, b = (json.dumps({"weighting__decay": d}) for d in (1.0, 5.0))
    rows = pd.DataFrame([_row(a, 0, 0.5, 0.5), _row(a, 1, 0.5, 0.5), _row(b, 0, 0.9, 0.5)], columns=COLUMNS)
    assert on_all_draws(rows)["config"].tolist() == [a, a]
    assert paired(rows[:1], rows[2:]).draws == 1 and paired(rows[:1], rows[2:]).verdict == 0


def test_commands_name_what_was_left_out_of_a_grid() -> None:
    runs = [
        run for steps, n in ((1, None), (5, 4)) for run in plan.chunks([TASK], ["ours"], 2, [steps], n, 999)
    ]
    rows = pd.DataFrame([run._asdict() for chunk in runs for run in chunk])
    start = f"python -m benchmarks.paper_tables grids --tasks '{TASK}' --methods 'ours' --draws 2"
    assert cli._commands(rows, rows[:0]) == [
        f"{start} --constraint-steps 1",
        f"{start} --settings 4 --constraint-steps 5",
    ]


def test_what_is_there_is_not_run_again(monkeypatch, tmp_path, capsys) -> None:
    arguments = [
        "grids",
        "--out",
        str(tmp_path),
        "--tasks",
        TASK,
        "--settings",
        "2",
        "--constraint-steps",
        "1",
    ]
    main([*arguments, "--methods", "Hu et al.", "--draws", "1", "--cross-fitted"])
    assert len(finished(tmp_path / "grids.csv")) == len(finished(tmp_path / "grids_cross_fitted.csv")) == 2
    asked = []

    def run_chunk(runs, home, *, cross_fitted):
        asked.extend(run.seed for run in runs)
        return []

    monkeypatch.setattr(cli, "run_chunk", run_chunk)
    text = main([*arguments, "--methods", "Hu et al.", "--draws", "2"]).read_text()
    assert asked == [1, 1]
    assert "2 of 3" in text and str(tmp_path) not in text
    asked.clear()
    text = main(["grids", "--out", str(tmp_path), "--as-it-stands"]).read_text()
    assert not asked
    command = f"python -m benchmarks.paper_tables grids --tasks '{TASK}' --methods 'Hu et al.' --draws 1 --settings 2"
    assert f"{command}\n{command} --cross-fitted\n```" in text and "2 of 3 | 1 |" in text

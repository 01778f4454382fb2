"""Whole tables: figures against scikit-learn by hand, what is resumed, and the report."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import Bunch

from benchmarks.paper_tables.__main__ import main
from benchmarks.tables import evaluation, readme, recipe_trials, report, runner, summary
from benchmarks.tables.methods import METHODS
from skreweight import ReweightedEnsembleClassifier
from skreweight._ensemble import recipe


def rows():
    X, y = make_classification(400, 6, weights=[0.9], random_state=0)
    return X[::2], y[::2], X[1::2], y[1::2]


def test_figures_of_a_rival() -> None:
    X, y, X_test, y_test = rows()
    figures = evaluation.evaluate(LogisticRegression(), X, y, X_test, y_test, seed=0)
    clf = LogisticRegression().fit(X, y)
    proba = clf.predict_proba(X_test)
    assert figures["average_precision"] == pytest.approx(average_precision_score(y_test, proba[:, 1]))
    assert figures["log_loss"] == pytest.approx(log_loss(y_test, proba))
    assert figures["macro_f1"] == pytest.approx(f1_score(y_test, clf.predict(X_test), average="macro"))
    # a calibration keeps the order of rows of two classes
    assert figures["fair_average_precision"] == pytest.approx(figures["average_precision"])
    assert figures["fair_g_mean"] > figures["g_mean"]
    assert figures["fair_seconds"] > figures["seconds"]


def test_the_ensemble_is_decided_by_its_own_out_of_fold_predictions() -> None:
    X, y, X_test, y_test = rows()
    clf = ReweightedEnsembleClassifier(n_folds=2, n_steps=20, random_state=0)
    figures = evaluation.evaluate(clf, X, y, X_test, y_test, seed=0)
    for name in ("g_mean", "average_precision", "log_loss", "seconds"):
        assert figures[f"fair_{name}"] == figures[name]
    made = clf.set_params(decision="f1_macro").predict(X_test)
    assert figures["fair_macro_f1"] == pytest.approx(f1_score(y_test, made, average="macro"))


def test_what_is_there_is_not_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(runner, "split", lambda name, seed, home: rows())
    made = []

    def method(seed):
        made.append(seed)
        return LogisticRegression()

    monkeypatch.setitem(METHODS, "balanced forest", method)
    monkeypatch.setitem(METHODS, "RUSBoost", lambda seed: LogisticRegression(C=1e-3))
    monkeypatch.setitem(METHODS, "MLP", lambda seed: LogisticRegression(C=-1))
    arguments = ["tables", "--out", str(tmp_path), "--sets", "oil", "us_crime", "--methods"]
    main([*arguments, "balanced forest", "--seeds", "1"])
    assert made == [0, 0]
    with (tmp_path / "tables.csv").open("a") as file:
        file.write("oil,balanced for")  # cut off in writing
    report = main([*arguments, "balanced forest", "RUSBoost", "--seeds", "2"])
    assert made == [0, 0, 1, 1]
    text = report.read_text()
    assert "2 sets, 2 fold(s) of five each" in text and (tmp_path / "tables.png").exists()
    frame = runner.finished(tmp_path / "tables.csv")
    by_fold = frame[frame["method"] == "RUSBoost"].groupby("seed")["average_precision"].mean()
    assert f"| {by_fold.mean():.3f} ± {by_fold.std(ddof=1):.3f} (" in text
    failed = main([*arguments, "balanced forest", "MLP", "--seeds", "1"]).read_text()
    assert "2 runs failed: InvalidParameterError" in failed
    assert len(np.unique(frame["set"])) == 2


def test_variants_of_the_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    X, y, *_ = rows()
    monkeypatch.setattr(recipe_trials, "SETS", ("oil",))
    monkeypatch.setattr(
        recipe_trials, "fetch_benchmark", lambda *_, **__: {"oil": Bunch(data=X, target=2 * y - 1)}
    )
    monkeypatch.setattr(recipe, "FEWEST_STEPS", 20)
    monkeypatch.setattr(recipe, "N_EPOCHS", 1)
    variants = {
        "the recipe": {},
        "the same": {"N_LOOKS": recipe.N_LOOKS},
        "other": {"hidden": (4,), "n_folds": 2},
    }
    monkeypatch.setattr(recipe_trials, "VARIANTS", variants)
    arguments = ["--out", str(tmp_path), "--draws", "1", "--variants", *variants]
    table = recipe_trials.main(arguments).set_index("")
    assert (
        "(+0.0000 ± 0.0000)" in table.loc["the same", "log_loss"]
        and "(" not in table.loc["the recipe", "g_mean"]
    )
    assert "(+0.0000 ± 0.0000)" not in table.loc["other", "log_loss"]
    found = recipe_trials.finished(tmp_path / "recipe.csv")
    assert len(found) == 6
    train, test = next(StratifiedKFold(2, shuffle=True, random_state=0).split(X, y))
    clf = ReweightedEnsembleClassifier(random_state=0).fit(X[train], y[train])
    own = found.query("variant == 'the recipe' and half == 0").iloc[0]
    assert own["average_precision"] == pytest.approx(
        average_precision_score(y[test], clf.predict_proba(X[test])[:, 1]), abs=1e-5
    )
    recipe_trials.main(arguments)
    assert len(recipe_trials.finished(tmp_path / "recipe.csv")) == 6, "nothing is run twice"


def test_a_set_with_test_rows_of_its_own_is_run_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path, capsys
) -> None:
    monkeypatch.setattr(runner, "split", lambda name, seed, home: rows())
    monkeypatch.setitem(METHODS, "MLP", lambda seed: LogisticRegression(C=10.0 ** (-seed)))
    arguments = ["tables", "--out", str(tmp_path), "--sets", "oil", "aps", "--methods", "MLP", "--seeds", "2"]
    text = main(arguments).read_text()
    assert sorted(zip(*runner.finished(tmp_path / "tables.csv")[["set", "seed"]].to_numpy().T, strict=True)) == [
        ("aps", 0), ("oil", 0), ("oil", 1)
    ]  # fmt: skip
    assert "2 sets, 1 to 2 fold(s)" in text
    assert np.isnan(
        summary.spread(runner.finished(tmp_path / "tables.csv").query("set == 'aps'"), "g_mean")["MLP"]
    )


def test_other_columns_are_not_mixed_in(tmp_path) -> None:
    (tmp_path / "tables.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has other columns"):
        runner.finished(tmp_path / "tables.csv")


def test_spread_is_over_folds_that_all_sets_have() -> None:
    of = {("a", 0): 0.1, ("a", 1): 0.3, ("a", 2): 0.9, ("b", 0): 0.5, ("b", 1): 0.9}
    frame = pd.DataFrame([{"set": s, "method": "m", "seed": k, "g_mean": v} for (s, k), v in of.items()])
    assert summary.spread(frame, "g_mean")["m"] == pytest.approx(np.std([0.3, 0.6], ddof=1))
    assert np.isnan(summary.spread(frame[frame["seed"] == 0], "g_mean")["m"])
    assert summary.n_folds(frame) == "2 to 3"
    alone = pd.DataFrame([{"set": "c", "method": "m", "seed": 0, "g_mean": 0.5}])
    assert summary.spread(pd.concat([frame, alone]), "g_mean")["m"] == summary.spread(frame, "g_mean")["m"]


def test_the_table_of_the_readme_is_that_of_the_results() -> None:
    page = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.table() in page
    assert readme.put_into(page) == page
    frame = runner.finished(readme.RESULTS / "tables.csv")
    of_ensemble = frame[frame["method"] == "ensemble"].groupby("set")["fair_g_mean"].mean().mean()
    assert f"| `ReweightedEnsembleClassifier()` | {of_ensemble:.3f}" in page


def test_the_readme_says_how_many_folds_there_are(tmp_path) -> None:
    frame = runner.finished(readme.RESULTS / "tables.csv").query("seed == 0")
    frame.to_csv(tmp_path / "one.csv", index=False)
    assert "no standard deviation" in readme.table(tmp_path / "one.csv")
    noisy = frame.assign(seed=1, fair_g_mean=frame["fair_g_mean"] + 0.02)
    pd.concat([frame, noisy]).to_csv(tmp_path / "two.csv", index=False)
    text = readme.table(tmp_path / "two.csv")
    assert "2 of five folds each; ± is the standard deviation over folds" in text
    assert " ± 0.014 (" in text  # 0.02/√2


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, data_home) -> None:
    row = runner.run_one("ecoli", method, 0, str(data_home))
    assert not row.get("error") and float(row["fair_g_mean"]) > 0.5


def test_what_is_written_by_hand_stays(tmp_path) -> None:
    rows = runner.finished(Path(__file__).parents[2] / "docs" / "results" / "tables.csv")
    page = report.write_report(rows, tmp_path, "first")
    page.write_text(page.read_text() + f"\n{report.OUR_WORDS}\n\nTwo lines,\nby hand.\n")
    again = report.write_report(rows, tmp_path, "second").read_text()
    assert "`second`" in again and "`first`" not in again
    assert again.endswith(f"\n\n{report.OUR_WORDS}\n\nTwo lines,\nby hand.\n")
    assert again.count("by hand") == 1

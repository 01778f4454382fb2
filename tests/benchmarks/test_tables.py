"""Whole tables: figures against scikit-learn by hand, what is resumed, and the report."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, log_loss

from benchmarks.paper_tables.__main__ import main
from benchmarks.tables import evaluation, runner
from benchmarks.tables.methods import METHODS
from skreweight import ReweightedEnsembleClassifier


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
    best = frame.groupby("method")["average_precision"].mean()
    assert f"| {best['RUSBoost']:.3f} (" in text
    failed = main([*arguments, "balanced forest", "MLP", "--seeds", "1"]).read_text()
    assert "2 runs failed: InvalidParameterError" in failed
    assert len(np.unique(frame["set"])) == 2


def test_other_columns_are_not_mixed_in(tmp_path) -> None:
    (tmp_path / "tables.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has other columns"):
        runner.finished(tmp_path / "tables.csv")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method(method: str, data_home) -> None:
    row = runner.run_one("ecoli", method, 0, str(data_home))
    assert not row.get("error") and float(row["fair_g_mean"]) > 0.5

"""Training rows unlike the validation rows: what is drawn, what a method is told, what is resumed and reported."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from benchmarks.paper_tables.__main__ import main
from benchmarks.trusted import draws, methods, report, runner, summary
from benchmarks.trusted.draws import Draw
from benchmarks.trusted.evaluation import evaluate
from benchmarks.trusted.methods import METHODS, Fitted, mislabelled, network, on_all_rows
from benchmarks.trusted.report import leads
from benchmarks.trusted.scenarios import SCENARIOS
from skreweight import ReweightedClassifier


@pytest.fixture(autouse=True)
def small_set(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_classification(1500, 6, weights=[0.85], class_sep=1.5, flip_y=0, random_state=0)
    monkeypatch.setattr(draws, "rows_of", lambda name, home: (X, y))


def rows_in(X: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in X}


@pytest.mark.parametrize("condition", ["clean", "missed 50 %", "false 50 %", "symmetric 10 %"])
def test_labels_are_wrong_where_the_condition_says_so(condition: str) -> None:
    draw = draws.noise("us_crime", condition, 5, 0, None)
    wrong = draw.y != draw.truth
    missed, false = wrong[draw.truth == 1].mean(), wrong[draw.truth == 0].mean()
    n_rare, n_common = np.bincount(draw.truth)[::-1]
    expected = {
        "clean": (0, 0),
        "missed 50 %": (0.5, 0),
        "false 50 %": (0, 0.5 * n_rare / n_common),
        "symmetric 10 %": (0.1, 0.1),
    }[condition]
    errors = [3 * np.sqrt(p * (1 - p) / n) for p, n in zip(expected, (n_rare, n_common), strict=True)]
    assert abs(missed - expected[0]) <= errors[0] and abs(false - expected[1]) <= errors[1]
    assert np.bincount(draw.y_val).tolist() == [5, 5]


def test_draws_of_all_sizes_and_conditions_are_paired() -> None:
    few, many = (draws.noise("us_crime", "clean", n, 0, None) for n in (5, 10))
    noisy = draws.noise("us_crime", "missed 50 %", 5, 0, None)
    np.testing.assert_array_equal(few.X, many.X)
    np.testing.assert_array_equal(few.X, noisy.X)
    np.testing.assert_array_equal(few.X_test, noisy.X_test)
    assert rows_in(few.X_val) < rows_in(many.X_val)
    assert not rows_in(many.X_val) & rows_in(many.X) and not rows_in(many.X_test) & rows_in(many.X)
    assert not np.array_equal(few.X_test[:20], draws.noise("us_crime", "clean", 5, 1, None).X_test[:20])


def test_too_many_validation_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="200 validation rows a class leave too few"):
        draws.noise("us_crime", "clean", 200, 0, None)


def test_a_shift_moves_training_rows_away_from_validation_and_test_rows() -> None:
    def distance(condition: str) -> float:
        draw = draws.shift("us_crime", condition, 10, 0, None)
        assert not rows_in(draw.X_val) & rows_in(draw.X_test)
        return float(np.linalg.norm(draw.X_test.mean(axis=0) - draw.X.mean(axis=0)))

    assert distance("strength 0") < 0.3 < 0.6 < distance("strength 2")


def test_groups_are_aligned_in_training_and_balanced_in_validation() -> None:
    rng = np.random.default_rng(0)
    y, attribute = (rng.random((2, 2000)) < [[0.2], [0.4]]).astype(int)
    parts = draws.parts_of(y, 0)
    for share in (0.5, 0.8, 0.95):
        train, validation = draws.aligned(parts, attribute, share, 10)
        for label in (0, 1):
            of_class = train[y[train] == label]
            assert (attribute[of_class] == label).mean() == pytest.approx(share, abs=0.03)
            own = validation[y[validation] == label]
            assert len(own) == 10 and (attribute[own] == label).sum() == 5
        assert not set(train) & set(validation) and not {*train, *validation} & set(parts.test)
    with pytest.raises(ValueError, match="leave too few of one group"):
        draws.aligned(parts, np.zeros(2000, int), 0.8, 10)


def test_groups_are_class_and_attribute() -> None:
    draw = draws.groups("us_crime", "aligned 80 %", 10, 0, None)
    assert draw.groups is not None and set(draw.groups) == {0, 1, 2, 3}
    np.testing.assert_array_equal(draw.groups // 2, draw.y_test)
    # PCA of the scaled rows: the attribute is on which side of a plane a test row lies
    assert (
        LogisticRegression(C=100).fit(draw.X_test, draw.groups % 2).score(draw.X_test, draw.groups % 2) > 0.97
    )


def test_networks_of_a_pack_are_those_trained_alone() -> None:
    some = [
        draws.noise("us_crime", c, 5, s, None) for c, s in (("clean", 0), ("missed 50 %", 0), ("clean", 1))
    ]
    together = network("hu", warmup_epochs=2, max_epochs=2)(some, [0, 0, 1])
    for draw, seed, fitted in zip(some, [0, 0, 1], together, strict=True):
        clf = ReweightedClassifier(weighting="hu", warmup_epochs=2, max_epochs=2, random_state=seed)
        clf.fit(draw.X, draw.y, X_val=draw.X_val, y_val=draw.y_val)
        assert isinstance(fitted, Fitted)
        np.testing.assert_allclose(fitted.p_test, clf.predict_proba(draw.X_test)[:, 1], atol=1e-4)
        np.testing.assert_allclose(fitted.quality, clf.example_weights_, atol=1e-4)


def test_pruning_leaves_out_confident_mistakes_and_at_most_half_of_a_class() -> None:
    y = np.array([0, 0, 0, 0, 1, 1])
    rare = np.array([0.1, 0.2, 0.05, 0.95, 0.9, 0.3])
    proba = np.c_[1 - rare, rare]
    assert mislabelled(proba, y).tolist() == [False, False, False, True, False, True]
    # thresholds: 0.675 for class 0, 0.6 for class 1; with all of class 1 suspicious one of two stays
    rare = np.array([0.1, 0.2, 0.05, 0.1, 0.15, 0.1])
    assert mislabelled(np.c_[1 - rare, rare], y)[4:].tolist() == [False, True]


def test_pruned_rows_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = draws.noise("us_crime", "missed 50 %", 5, 0, None)
    seen = []

    def spy(weighting):
        def fit(some, seeds):
            seen.append(len(some[0].y))
            return [Fitted(np.zeros(1), np.zeros(1), np.zeros(1, int))]

        return fit

    monkeypatch.setattr(methods, "network", spy)
    (fitted,) = methods.pruned("none")([draw], [0])
    (proba,) = methods.out_of_fold([draw], [0])
    assert not np.isnan(proba).any()
    assert seen == [len(draw.y) - mislabelled(proba, draw.y).sum()] and seen[0] < len(draw.y)
    np.testing.assert_array_equal(fitted.quality, proba[np.arange(len(draw.y)), draw.y])


def test_figures_by_hand() -> None:
    y_test, groups = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])
    X = np.zeros((4, 1), np.float32)
    draw = Draw(
        X, np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), X, np.array([0, 0, 1, 1]), X, y_test, groups
    )
    p = np.array([0.1, 0.35, 0.3, 0.4])
    fitted = Fitted(p, np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 0, 1]), np.array([0.9, 0.1, 0.5, 0.6]))
    figures = evaluate(fitted, draw)
    assert figures["average_precision"] == average_precision_score(y_test, p)
    assert figures["balanced_accuracy"] == balanced_accuracy_score(y_test, [0, 0, 0, 1])
    assert figures["tuned_balanced_accuracy"] == 0.75  # the threshold lies between 0.2 and 0.3
    assert figures["worst_group"] == figures["tuned_worst_group"] == 0
    assert figures["found_missed"] == 1 and figures["wrong_missed"] == 0.5 and "found_false" not in figures


def test_a_lead_is_paired_over_draws() -> None:
    rows = pd.DataFrame(
        [("a", "none", 5, "clean", seed, 0.5 + 0.2 * seed) for seed in (0, 1)]
        + [("a", "proportion", 5, "clean", 0, 0.9)]  # not on both draws: no rival
        + [("a", "ours", 5, "clean", seed, 0.51 + 0.21 * seed) for seed in (0, 1)],
        columns=["set", "method", "n_validation", "condition", "seed", "average_precision"],
    )
    (row,) = leads(rows, "average_precision").itertuples()
    assert (row.learned, row.other, row.draws) == ("ours", "none", 2)
    assert row.lead == pytest.approx(1.5) and row.error == pytest.approx(0.5)


def test_a_table_is_the_mean_over_sets_and_says_what_lacks_one() -> None:
    rows = pd.DataFrame(
        [
            (name, method, 5, "clean", seed, value + 0.1 * seed)
            for name, method, value in (
                ("a", "none", 0.5),
                ("b", "none", 0.7),
                ("a", "ours", 0.4),
                ("b", "ours", 0.6),
            )
            for seed in (0, 1)
        ]
        + [("a", "ensemble", 5, "clean", seed, 0.9) for seed in (0, 1)]
        + [("a", "none", 200, "clean", 0, 0.5), ("a", "proportion", 5, "clean", 0, np.nan)],
        columns=["set", "method", "n_validation", "condition", "seed", "average_precision"],
    )
    text = report._table(rows, "average_precision")
    assert "| 5 | none | 65.0 ± 7.1 |" in text and "| 5 | ensemble | – |" in text
    assert "Without b at 200." in text and "| 200 | none | 50.0 |" in text and "proportion" not in text
    assert "- 5 validation rows a class, clean, a alone: ensemble 90.0 ± 0.0, ours 45.0 ± 7.1" in text


def test_pairs_are_means_over_what_both_have_and_spread_over_draws() -> None:
    rows = pd.DataFrame(
        [
            (name, method, 5, condition, seed, value + (0.1 * seed if method == "ours" else 0))
            for name in ("a", "b")
            for condition in ("missed 10 %", "missed 30 %")
            for method, value in (("none", 0.5), ("ours", 0.6))
            for seed in (0, 1)
        ]
        + [("c", "ours", 5, "clean", 0, 0.9), ("a", "ensemble", 5, "missed 10 %", 0, 0.9)],
        columns=["set", "method", "n_validation", "condition", "seed", "average_precision"],
    )
    text = summary.pairs(rows, "average_precision")
    assert "| difference | missed | clean |" in text
    assert "| ours - none | +15.0 ± 7.1 (4) | – |" in text
    assert "| ours - ensemble | -30.0 (1) | – |" in text


def test_in_short_counts_what_is_ahead_and_behind() -> None:
    table = pd.DataFrame(
        [
            ("missed 10 %", 3.0, 1.0),
            ("missed 30 %", -5.0, 1.0),
            ("missed 30 %", 0.5, 1.0),
            ("clean", 1.0, 1.0),
        ],
        columns=["condition", "lead", "error"],
    )
    text = summary.in_short({"G-mean": table})
    assert "| G-mean | -0.5; 1 ahead, 1 behind of 3 | +1.0; 0 ahead, 0 behind of 1 |" in text


def test_what_is_missing_of_the_cross_is_counted_and_what_cannot_be_is_not() -> None:
    rows = pd.DataFrame(
        [
            ("us_crime", "none", 5, "clean", ""),
            ("us_crime", "none", 200, "clean", "at most: leave too few rows"),
        ],
        columns=["set", "method", "n_validation", "condition", "error"],
    )
    text = summary.coverage(rows, SCENARIOS["noise"], ["none", "ours"])
    assert "| none | 1 of 72 | 0 of 72 | 0 of 72 | 0 of 71 |" in text
    # one draw has rows enough
    more = pd.concat([rows, rows.assign(n_validation=200, error="")])
    assert "| none | 1 of 72 | 0 of 72 | 0 of 72 | 1 of 72 |" in summary.coverage(
        more, SCENARIOS["noise"], ["none"]
    )
    assert "| ours | 0 of 72 |" in text and "by size: 200: us_crime." in text


def test_what_is_there_is_not_run_again(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    made = []

    def make(seed):
        made.append(seed)
        return LogisticRegression()

    monkeypatch.setitem(METHODS, "boosted trees", on_all_rows(make))
    monkeypatch.setitem(METHODS, "ensemble", on_all_rows(lambda seed: LogisticRegression(C=-1)))
    arguments = ["noise", "--out", str(tmp_path), "--sets", "us_crime", "--sizes", "5"]
    arguments += ["--conditions", "clean", "missed 30 %", "--methods", "boosted trees"]
    main([*arguments, "--seeds", "1"])
    assert made == [0, 0]
    with (tmp_path / "noise.csv").open("a") as file:
        file.write("us_crime,boosted")  # cut off in writing
    report = main([*arguments, "ensemble", "--seeds", "2"])
    assert made == [0, 0, 1, 1]
    text = report.read_text()
    assert "InvalidParameterError" in text and "(4 runs)" in text
    made = "--seeds 2 --sets us_crime --sizes 5 --conditions clean 'missed 30 %' --methods 'boosted trees' ensemble"
    assert made in text and str(tmp_path) not in text
    rows = runner.finished(tmp_path / "noise.csv")
    mean = 100 * rows.loc[rows["condition"].eq("clean"), "average_precision"].mean()
    assert f"| boosted trees | {mean:.1f} ±" in text


def test_mislabelled_reads_the_runs_of_noise(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    monkeypatch.setitem(METHODS, "ours", network("ours", warmup_epochs=1, max_epochs=1))
    arguments = ["--out", str(tmp_path), "--sets", "us_crime", "--sizes", "5", "--conditions", "missed 30 %"]
    main(["noise", *arguments, "--methods", "ours", "--seeds", "1"])
    monkeypatch.setitem(METHODS, "ours", lambda some, seeds: pytest.fail("run again"))
    text = main(["mislabelled", *arguments, "--methods", "ours", "--seeds", "1"]).read_text()
    assert "Mislabelled rows, ranked" in text and "What guessing has" in text


def test_the_page_as_it_stands_runs_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    monkeypatch.setitem(METHODS, "boosted trees", on_all_rows(lambda seed: LogisticRegression()))
    arguments = ["noise", "--out", str(tmp_path), "--seeds", "2"]
    some = ["--sets", "us_crime", "--sizes", "5", "--conditions", "clean", "--methods", "boosted trees"]
    first = main([*arguments, *some]).read_text()
    monkeypatch.setattr(runner, "run_together", lambda *args: pytest.fail("run"))
    again = main([*arguments, "--as-it-stands"]).read_text()
    assert "2 fits on us_crime" in first and first.split("## ", 1)[1] == again.split("## ", 1)[1]


def test_errors_that_differ_in_their_last_number_are_one_line() -> None:
    failed = pd.DataFrame(
        [
            ("a", 50, "leave too few: at most 12 here."),
            ("a", 50, "leave too few: at most 18 here."),
            ("b", 5, "Bad."),
        ],
        columns=["set", "n_validation", "error"],
    )
    assert report._failures(failed).splitlines() == [
        "- a, 50 validation rows a class: leave too few: at most 12 to 18 here. (2 runs)",
        "- b, 5 validation rows a class: Bad. (1 runs)",
    ]


def test_an_unknown_condition_is_named(tmp_path) -> None:
    with pytest.raises(SystemExit, match="Unknown condition 'dirty'"):
        main(["noise", "--out", str(tmp_path), "--conditions", "dirty"])

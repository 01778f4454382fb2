"""The tables' machinery on tiny data; the quick form of each table, marked slow, on the real data."""

import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.paper_tables import evaluation, protocols, ranks, report, runner, selection, tables
from benchmarks.paper_tables.__main__ import main
from benchmarks.paper_tables.experiments import Experiment
from benchmarks.paper_tables.grids import configurations
from benchmarks.paper_tables.methods import (
    BENCHMARK_METHODS,
    IMAGE_METHODS,
    LIU_METHODS,
    METHODS,
    QI2_METHODS,
    QI_METHODS,
    is_default,
)
from benchmarks.paper_tables.protocols import Data
from benchmarks.paper_tables.published import PUBLISHED
from benchmarks.paper_tables.recipes import Recipe, _rate_of_epoch, _shifted
from benchmarks.paper_tables.tables import TABLES, Table
from skreweight.modules import MLP
from skreweight.weighting import Ours


def _blobs(seed: int, *, data_home: object = None) -> Data:
    rng = np.random.default_rng(seed)

    def rows(n_rare: int, n_common: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.repeat([0, 1], [n_rare, n_common])
        X = rng.normal(size=(len(y), 4)) + 1.5 * y[:, None]
        return X.astype(np.float32), y

    return Data(*rows(8, 80), *rows(5, 5), *rows(40, 40), rare=0)


_RECIPE = Recipe(
    None,
    {"warmup_epochs": 2, "batch_size": 32, "module__hidden": (8,)},
    {"max_epochs": 1, "batch_size": 32},
)


@pytest.fixture
def experiment() -> Experiment:
    return Experiment(_blobs(0), _RECIPE, seed=0)


@pytest.fixture
def tiny_table(monkeypatch: pytest.MonkeyPatch) -> str:
    tasks = {"a": (_blobs, lambda grid: _RECIPE), "b": (_blobs, lambda grid: _RECIPE)}
    monkeypatch.setitem(
        TABLES, "tiny", Table("Tiny", tasks, ("plain", "ours", "boosted trees"), ("plain, tuned threshold",))
    )
    runner._experiment.cache_clear()
    return "tiny"


# ------------------------------------------------------------------ methods and experiments


@pytest.mark.parametrize("name", [m for m in METHODS if m in {*LIU_METHODS, *BENCHMARK_METHODS}])
def test_every_method_gives_probabilities(name, experiment):
    classifier = METHODS[name](experiment)
    p = classifier.predict_proba(experiment.data.X_test)
    assert p.shape == (80, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)


def test_an_ensemble_learns_from_all_rows_and_answers_by_its_decision(experiment):
    decided = METHODS["ensemble of ours + validation rows"](experiment)
    assert len(decided.ensemble.oof_proba_) == len(experiment.all_rows[0]) == 98
    assert {e.weighting for e in decided.ensemble.estimators_} == {"ours"}
    X = experiment.data.X_test
    p = decided.predict_proba(X)
    np.testing.assert_array_equal(p.argmax(axis=1), decided.ensemble.predict(X))
    # by class shares: a class is called where it is more probable than it is frequent
    frequency = np.bincount(experiment.all_rows[1]) / 98
    np.testing.assert_array_equal(
        p.argmax(axis=1), (decided.ensemble.predict_proba(X) / frequency).argmax(axis=1)
    )


def test_rows_of_the_tables_are_known_methods():
    for table in TABLES.values():
        assert set(table.methods) <= set(METHODS)
    assert {"plain + validation rows", "proportion + validation rows"} <= set(IMAGE_METHODS)


def test_published_figures_belong_to_rows_of_the_tables():
    for table, tasks in PUBLISHED.items():
        for task, row in tasks.items():
            assert set(row) <= set(TABLES[table].methods)
            assert task in TABLES[table].tasks or table in (
                "qi1",
                "qi2",
            )  # they have another task without a GPU
    assert PUBLISHED["liu5"]["20:1000"]["ours"] == (81.14, 1.25)
    assert PUBLISHED["qi2"]["long-tailed, ratio 100"]["META (CB-LDAM)"] == (80.0,)


@pytest.mark.parametrize("name", QI2_METHODS)
def test_every_method_of_qi_works_in_one_fit_of_both_stages(name):
    """As images have it: no validation rows given, stage 1 not shared."""
    whole = {"warmup_epochs": 1, "max_epochs": 1, "batch_size": 32, "module__hidden": (8,)}
    data = _blobs(0)._replace(X_val=None, y_val=None)
    classifier = METHODS[name](Experiment(data, Recipe(MLP, {}, whole), seed=0))
    assert classifier.predict_proba(data.X_test).shape == (80, 2)


def test_rows_of_qi_correct_once():
    """META's class weights are its own; those of the others set in with stage 2."""
    for name, method in METHODS.items():
        if name.startswith("META ("):
            assert method.weighting == "meta" and "class_weight" not in method.fixed
        elif "(CB-" in name:
            assert method.fixed["class_weight"] == "effective-number" and method.fixed["defer_class_weight"]
    for unknown in ("OLTR", "range loss", "RECOVER"):
        assert unknown in TABLES["qi2"].note


def test_nearest_class_mean_is_that_of_its_definition(experiment):
    """cl2n of Kang et al., on the rows and on what the last layer is given."""
    data = experiment.data
    for on_features in (False, True):
        name = "nearest class mean on features" if on_features else "nearest class mean on X"
        features = experiment.network(weighting="none").features if on_features else np.asarray
        train, test = features(data.X_train), features(data.X_test)
        centre = train.mean(0)
        u, v = ((x - centre) / np.linalg.norm(x - centre, axis=1, keepdims=True) for x in (train, test))
        means = np.stack([u[data.y_train == c].mean(0) for c in (0, 1)])
        score = -((v[:, None] - means) ** 2).sum(-1)
        expected = np.exp(score) / np.exp(score).sum(1, keepdims=True)
        p = METHODS[name](experiment).predict_proba(data.X_test)
        np.testing.assert_allclose(p, expected, rtol=1e-4, atol=1e-6)


def test_sampling_holds_from_stage_one_on_unless_it_is_deferred(experiment):
    plain = experiment.network(weighting="none", max_epochs=0)
    deferred = experiment.network(weighting="none", sampling="balanced", defer_sampling=True, max_epochs=0)
    sampled = experiment.network(weighting="none", sampling="balanced", max_epochs=0)

    def same(a, b):
        return all(
            torch.equal(p, q) for p, q in zip(a.module_.parameters(), b.module_.parameters(), strict=True)
        )

    assert same(plain, deferred) and not same(plain, sampled)


def test_shared_first_stage_changes_nothing(experiment):
    apart = Experiment(experiment.data, _RECIPE, seed=0)
    experiment.network(weighting="hu")  # trains on from the shared network, which must stay as it was
    together = experiment.network(weighting="proportion")
    alone = apart.network(apart.training_rows, weighting="proportion")
    for a, b in zip(together.module_.parameters(), alone.module_.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_control_rows_train_on_the_validation_rows(experiment):
    X, y = experiment.all_rows
    assert len(X) == 98 and np.bincount(y).tolist() == [13, 85]
    control = METHODS["plain + validation rows"](experiment)
    assert control.class_counts_.tolist() == [13, 85]
    assert METHODS["plain"](experiment).class_counts_.tolist() == [8, 80]


def test_oversampling_balances_the_rows(experiment):
    for name in ("random oversampling + validation rows", "SMOTE + validation rows"):
        assert METHODS[name](experiment).class_counts_.tolist() == [85, 85]


# ------------------------------------------------------------------ grids


def test_the_papers_grid_has_every_setting_of_the_paper():
    assert len(configurations("Hu et al.", "paper", "liu5")) == 3
    assert len(configurations("two-phase", "paper", "liu5")) == 4 * 9
    assert len(configurations("two-phase", "paper", "liu6")) == 4 * 14
    assert len(configurations("Hu et al. + R", "paper", "liu9")) == 3 * 4 * 4 * 9
    assert len(configurations("ours", "paper", "liu9")) == 4 * 5 * 4 * 9
    assert configurations("boosted trees", "paper", "liu9") == [{}]
    assert configurations("plain", "paper", "liu9") == [{"keep_best": "step"}]


@pytest.mark.parametrize("grid", ["quick", "paper"])
@pytest.mark.parametrize("table", list(TABLES))
def test_every_setting_is_one_of_the_estimator(table, grid, experiment):
    from skreweight import ReweightedClassifier

    for method in TABLES[table].methods:
        for settings in configurations(method, grid, table)[:40]:
            json.dumps(settings)
            weighting = getattr(METHODS[method], "weighting", None)
            if weighting is not None:
                ReweightedClassifier(weighting=weighting, **settings)._check_parameters()


# ------------------------------------------------------------------ evaluation


def test_metrics_against_a_count_by_hand():
    y, decided = np.array([0, 0, 0, 1, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1, 0, 0])
    figures = evaluation._decided(y, decided)
    assert figures["accuracy"] == pytest.approx(5 / 8)
    assert figures["g_mean"] == pytest.approx(math.sqrt(2 / 3 * 3 / 5))
    assert figures["macro_f1"] == pytest.approx((2 * 2 / (2 * 2 + 2 + 1) + 2 * 3 / (2 * 3 + 1 + 2)) / 2)


def test_tuned_threshold_lies_in_the_middle_of_the_best():
    is_rare = np.array([False, False, True, True])
    assert evaluation.tuned_threshold(is_rare, np.array([0.1, 0.2, 0.6, 0.8])) == pytest.approx(0.4)
    # equal scores: no threshold is better than another, and none fails
    assert np.isfinite(evaluation.tuned_threshold(is_rare, np.full(4, 0.5)))


def test_tuned_threshold_against_every_threshold():
    rng = np.random.default_rng(0)
    is_rare, scores = np.repeat([True, False], 10), rng.normal(size=20) + np.repeat([1.0, 0.0], 10)

    def balanced_accuracy(t: float) -> float:
        return ((scores[is_rare] > t).mean() + (scores[~is_rare] <= t).mean()) / 2

    best = max(balanced_accuracy(t) for t in np.linspace(-4, 4, 4001))
    assert balanced_accuracy(evaluation.tuned_threshold(is_rare, scores)) == pytest.approx(best)


def test_average_precision_is_of_the_rare_class():
    y, p = np.array([0, 1, 1, 1]), np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    assert evaluation.average_precision(y, p, rare=0) == 1.0
    assert evaluation.average_precision(y, p[:, ::-1], rare=0) == pytest.approx(1 / 4)


# ------------------------------------------------------------------ running and resuming


def test_a_rerun_resumes(tiny_table, tmp_path, monkeypatch):
    runs = runner.planned(tiny_table, "quick", range(2), ["a", "b"], ["plain", "boosted trees"])
    path = tmp_path / "tiny.csv"
    first = runner.run(runs[:5], path, data_home=None)
    assert len(first) == 5 and first["accuracy"].notna().all()
    with path.open("a") as file:
        file.write("tiny,quick,a,pl")  # the run was killed in the middle of a line
    calls = []
    one = runner.run_one
    monkeypatch.setattr(runner, "run_one", lambda *args, **kw: calls.append(args[0]) or one(*args, **kw))
    rows = runner.run(runs, path, data_home=None)
    assert calls == runs[5:]
    assert len(rows) == len(runs) and rows["accuracy"].notna().all()
    pd.testing.assert_frame_equal(rows.iloc[:5], first, check_dtype=False)


def test_a_failure_is_a_row_and_is_shown(tiny_table, tmp_path, monkeypatch):
    def fails(experiment: Experiment) -> None:
        raise ValueError("no such luck")

    monkeypatch.setitem(METHODS, "boosted trees", fails)
    runs = runner.planned(tiny_table, "quick", range(1), ["a"], ["plain", "boosted trees"])
    rows = runner.run(runs, tmp_path / "tiny.csv", data_home=None)
    text = report.write_report(tiny_table, rows, tmp_path, "the command").read_text()
    assert "ValueError: no such luck" in text
    assert "| boosted trees | failed |" in text


def test_other_columns_are_refused(tmp_path):
    path = tmp_path / "old.csv"
    path.write_text("table,accuracy\nliu9,0.5\n")
    with pytest.raises(ValueError, match="choose another --out"):
        runner.finished(path)


def test_command_line_writes_all_files(tiny_table, tmp_path, capsys):
    path = main([tiny_table, "--seeds", "2", "--out", str(tmp_path), "--tasks", "a"])
    text = path.read_text()
    assert path == tmp_path / "tiny.md" and "| plain, tuned threshold |" in text
    assert {p.name for p in tmp_path.iterdir()} == {
        "tiny.csv", "tiny.md", "tiny.png", "tiny_summary.csv"
    }  # fmt: skip
    with pytest.raises(SystemExit, match="Unknown method 'ourz'"):
        main([tiny_table, "--methods", "ourz"])


# ------------------------------------------------------------------ selection


def _rows() -> pd.DataFrame:
    rows = [
        # config, seed, val_accuracy, val_loss, accuracy
        ("x", 0, 0.9, 0.5, 0.60),
        ("y", 0, 0.9, 0.4, 0.70),
        ("z", 0, 0.8, 0.1, 0.99),
        ("x", 1, 1.0, 0.5, 0.80),
        ("y", 1, 0.9, 0.1, 0.50),
        ("z", 1, 0.8, 0.1, 0.89),
    ]
    frame = pd.DataFrame(rows, columns=["config", "seed", "val_accuracy", "val_loss", "accuracy"])
    return frame.assign(task="t", method="ours")


def test_best_on_validation_breaks_ties_by_loss():
    chosen = selection.best_on_validation(_rows())
    assert chosen.set_index("seed")["config"].to_dict() == {0: "y", 1: "x"}


def test_default_settings_are_those_of_the_weightings():
    polyak = Ours().polyak
    configs = [{"keep_best": "step"}, {"weighting__polyak": polyak}, {"weighting__polyak": polyak / 2}]
    rows = pd.DataFrame({"method": "ours", "config": [json.dumps(config) for config in configs]})
    assert selection.at_defaults(rows)["config"].tolist() == rows["config"].tolist()[:2]
    assert is_default("plain, tuned threshold", {"keep_best": "step"})
    assert not is_default("ABSGD (CE)", {"weighting__lam": 0.5})


def test_best_on_test_is_one_setting_for_all_seeds():
    chosen = selection.best_on_test(_rows())
    assert set(chosen["config"]) == {"z"}
    figures = selection.mean_and_std(chosen, "accuracy").loc[("t", "ours")]
    assert figures["mean"] == pytest.approx(94) and figures["std"] == pytest.approx(5 * math.sqrt(2))


# ------------------------------------------------------------------ ranks


def test_average_ranks_share_ties():
    scores = pd.DataFrame({"a": [0.9, 0.5], "b": [0.8, 0.5], "c": [0.7, 0.6]})
    assert ranks.average_ranks(scores).to_dict() == {"a": 1.75, "c": 2.0, "b": 2.25}


def test_critical_difference_is_that_of_demsar():
    # Demšar (2006), section 3.2.2 (q = 2.569 for 4 methods, 14 sets) and Table 5 (q = 3.164 for 10)
    assert ranks.critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(20 / 84), abs=1e-3)
    assert ranks.critical_difference(10, 10) == pytest.approx(3.164 * math.sqrt(110 / 60), abs=2e-3)


def test_cliques_are_the_largest_groups_within_the_difference():
    ranked = pd.Series({"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0})
    assert ranks.cliques(ranked, 1.0) == [(1.0, 1.5), (1.5, 2.2)]
    assert ranks.cliques(ranked, 1.3) == [(1.0, 2.2)]


# ------------------------------------------------------------------ protocols and recipes


def test_class_mean_imputation_is_the_mean_of_the_rows_own_class():
    X = np.array([[1.0], [np.nan], [5.0], [np.nan]])
    filled = protocols._filled_by_class(X, np.array([0, 0, 1, 1]))
    assert filled.ravel().tolist() == [1.0, 1.0, 5.0, 5.0]


def test_rates_of_the_long_tail():
    assert [_rate_of_epoch(e) for e in (0, 4, 159, 160, 180)] == [0.2, 1.0, 1.0, 1e-2, 1e-4]


def test_shifted_images_keep_their_pixels():
    torch.manual_seed(0)
    images = torch.arange(1.0, 1 + 4 * 3 * 8 * 8).reshape(4, 3, 8, 8)
    moved = _shifted(images, by=2)
    assert moved.shape == images.shape
    for before, after in zip(images, moved, strict=True):
        inside = after[after > 0]
        assert len(inside) >= 3 * 6 * 6 and torch.isin(inside, before).all()
        assert len(inside.unique()) == len(inside)


@pytest.mark.parametrize(
    ("task", "counts"),
    [
        ("mean imputation, min-max", ([10_000, 10], [5, 5], [300, 300])),
        ("mean imputation, quantile", ([10_000, 10], [5, 5], [300, 300])),
    ],
)
@pytest.mark.slow
def test_draws_of_aps(task, counts, data_file):
    home = data_file("aps_failure/aps_failure_training_set.csv.gz").parents[1]
    data = TABLES["liu9"].experiment(task, 0, "quick", str(home)).data
    assert tuple(np.bincount(y).tolist() for y in (data.y_train, data.y_val, data.y_test)) == counts
    assert np.isfinite(data.X_train).all() and data.X_train.min() >= 0 and data.X_train.max() <= 1


def test_draws_of_sentences(data_file):
    home = str(data_file("sst2_minilm.npz").parent)
    data = TABLES["liu5"].experiment("20:1000", 0, "quick", home).data
    assert np.bincount(data.y_train).tolist() == [20, 1000] and np.bincount(data.y_val).tolist() == [10, 10]
    assert len(data.y_test) == 1821 and data.rare == 0
    other = TABLES["liu5"].experiment("20:1000", 1, "quick", home).data
    assert not np.array_equal(data.X_train, other.X_train)


def test_folds_of_the_benchmark_are_disjoint_and_complete(data_file):
    home = str(data_file("zenodo/x1data.npz").parents[1])
    folds = [protocols.benchmark_fold(name="ecoli", data_home=home, seed=fold) for fold in range(5)]
    assert sum(len(fold.y_test) for fold in folds) == 336
    for fold in folds:
        assert len(fold.y_train) + len(fold.y_val) + len(fold.y_test) == 336
        assert np.bincount(fold.y_val).tolist() == [5, 5]


# ------------------------------------------------------------------ the tables themselves, in their quick form


def _quick(table: str, tasks: list[str], home: str, out: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return main([table, "--seeds", "1", "--data", home, "--out", out, "--tasks", *tasks]).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "tasks"),
    [
        ("liu9", ["mean imputation, quantile"]),
        ("liu5", ["20:1000"]),
        ("liu4", ["50:500"]),
        ("benchmark", ["ecoli", "oil"]),
        ("qi1", ["stand-in (no GPU)"]),
        ("qi2", ["stand-in (no GPU)"]),
        ("trials", ["SST-2, 20:1000, dev"]),
    ],
)
def test_quick_form_of_a_table(table, tasks, data_home, tmp_path, capsys, monkeypatch):
    if not set(tasks) <= set(TABLES[table].tasks):
        pytest.skip("with a GPU the table has no stand-in")
    if table.startswith("qi"):  # a ResNet for every row is enough
        monkeypatch.setattr(runner, "configurations", lambda *args: configurations(*args)[:1])
    text = _quick(table, tasks, str(data_home), str(tmp_path))
    assert "## Failures" not in text
    for method in TABLES[table].methods:
        assert f"| {method} |" in text or table == "trials"
    if table == "trials":
        assert "| ours, keep_best=False |" in text and "| Hu et al., decay=1.0 |" in text


@pytest.mark.slow
def test_quick_form_of_the_images(data_home, tmp_path, capsys, monkeypatch):
    """The whole quick form takes hours on a CPU: fewer images and one epoch show that every row runs."""
    draw = tables.partial(protocols.apple_or_fish, n_rare=8, n_common=24)
    recipe = tables.recipes.apples("quick")
    short = Recipe(
        recipe.module, {**recipe.stage_one, "warmup_epochs": 1}, {**recipe.stage_two, "max_epochs": 1}
    )
    monkeypatch.setitem(TABLES["liu6"].tasks, "4:400", (draw, lambda grid: short))
    monkeypatch.setattr(runner, "configurations", lambda *args: configurations(*args)[:1])
    text = _quick("liu6", ["4:400"], str(data_home), str(tmp_path))
    assert "## Failures" not in text and len(QI_METHODS) == 4

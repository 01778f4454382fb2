"""The figures of docs/results: what is drawn is what the tables say, and the pages carry its words."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.paper_tables import figures, ranks
from benchmarks.paper_tables.look import HUES, by_kind, digest, kind_of, name_of, stamped
from benchmarks.paper_tables.methods import METHODS, TUNED
from skreweight.weighting import WEIGHTINGS

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def some_figures(tasks: list[str], methods: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(t, m, "validation", *rng.uniform([55, 1], [80, 5]), 3) for t in tasks for m in methods]
    return pd.DataFrame(rows, columns=["task", "method", "chosen_on", "mean", "std", "n"])


def test_names_are_those_that_users_type():
    assert {"ren", "hu", "ours", "absgd", "two-phase", "proportion", "none"} <= {name_of(m) for m in METHODS}
    rows = [m for m in METHODS if not m.startswith(("SGD", "ABSGD ("))]
    for method in (*rows, *TUNED):
        first = name_of(method).split(",")[0].removesuffix(" + v")
        assert kind_of(method) == "peers" or first in WEIGHTINGS or first == "LogitAdjustedLoss"
    assert [kind_of(m) for m in ("ours", "plain, tuned threshold", "boosted trees")] == list(HUES)


def test_panels_hold_the_figures_of_the_table():
    table = some_figures(list("abcd"), ["plain", "ours", "SMOTE + validation rows"])
    drawn = figures.dots(table, {"b": {"ours": (90.0,)}}, chance=50.0)
    axes = [axis for axis in drawn.axes if axis.axison]
    assert len(axes) == 4 and len({axis.get_position().y0 for axis in axes[:3]}) == 1  # three in a row
    assert len({axis.get_xlim() for axis in axes[:3]}) == 1
    labels = [text.get_text() for text in axes[0].get_yticklabels()]
    assert labels == ["ours", "none", "SMOTE + v"]
    for axis, task in zip(axes, "abcd", strict=True):
        block = table[table["task"] == task].set_index("method").loc[by_kind(list(table["method"].unique()))]
        for container, (_, row) in zip(axis.containers, block.iterrows(), strict=True):
            point, _, (whisker,) = container.lines
            assert point.get_xdata()[0] == row["mean"]
            ends = whisker.get_segments()[0][:, 0]
            np.testing.assert_allclose(ends, [row["mean"] - row["std"], row["mean"] + row["std"]])
        crosses = [line for line in axis.lines if line.get_marker() == "x"]
        assert [line.get_xdata()[0] for line in crosses] == ([90.0] if task == "b" else [])


def test_hues_are_three_and_distinct():
    assert len(set(HUES.values())) == 3
    drawn = figures.dots(some_figures(["a"], ["ours", "plain", "boosted trees"]), {}, None)
    assert [c.lines[0].get_color() for c in drawn.axes[0].containers] == list(HUES.values())


def test_labels_are_kept_apart_and_in_their_order():
    moved = figures._apart({"a": 1.0, "b": 1.1, "c": 5.0}, 1.0)
    assert moved["b"] - moved["a"] == pytest.approx(1.0) and moved["c"] > moved["b"]
    assert np.mean(list(moved.values())) == pytest.approx(np.mean([1.0, 1.1, 5.0]))


def test_names_of_a_diagram_lie_within_it(tmp_path):
    names = ["ours", "plain", "boosted trees", "hu", "SMOTE"]
    scores = pd.DataFrame(np.random.default_rng(0).random((6, 5)), columns=names)
    drawn = figures.critical_differences({"G-mean": scores, "macro-F1": scores}, tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").stat().st_size > 10_000
    ranked = ranks.average_ranks(scores)
    assert f"first {name_of(ranked.index[0])} ({ranked.iloc[0]:.1f})" in drawn.alt
    assert "over 6 sets" in drawn.caption


@pytest.mark.parametrize("name", list(figures.PAGES))
def test_pages_carry_the_words_of_their_figures(name, tmp_path):
    shutil.copy(RESULTS / f"{name}.csv", tmp_path)
    drawn = figures.draw(name, tmp_path)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    page = (RESULTS / f"{figures.PAGES[name][0]}.md").read_text(encoding="utf-8")
    assert figures.put_into(page, f"{name}.png", drawn) == page


@pytest.mark.parametrize("name", [*figures.PAGES, "tables"])
def test_pictures_are_of_the_figures_that_lie_beside_them(name):
    assert stamped(RESULTS / f"{name}.png") == digest(RESULTS / f"{name}.csv")


def test_a_picture_of_other_figures_is_found(tmp_path):
    shutil.copy(RESULTS / "sst5.csv", tmp_path)
    figures.draw("sst5", tmp_path)
    assert stamped(tmp_path / "sst5.png") == digest(tmp_path / "sst5.csv")
    with (tmp_path / "sst5.csv").open("a") as file:
        file.write("more\n")
    assert stamped(tmp_path / "sst5.png") != digest(tmp_path / "sst5.csv")


def test_a_page_without_the_picture_is_refused():
    with pytest.raises(ValueError, match="once, got 0 times"):
        figures.put_into("nothing", "a.png", figures.Drawn("a", "b"))


def test_ranks_on_the_pages_of_methods_are_those_of_the_results():
    names = {
        "meta": "META",
        "meta-weight-net": "Meta-Weight-Net",
        "term": "TERM",
        "top-loss": "top loss",
        "eg": "EG",
    }
    names |= {
        "crt": "cRT",
        "lws": "LWS",
        "tau-norm": "tau-norm",
        "logit-adjustment": "logit adjustment, post hoc",
    }
    frame = pd.read_csv(RESULTS / "benchmark_more.csv")
    metrics = ["G-mean, default decision", "macro-F1, default decision", "average precision"]
    blocks = [
        frame[frame["metric"] == m].pivot(index="task", columns="variable", values="mean") for m in metrics
    ]
    found = [ranks.average_ranks(block) for block in blocks]
    for page, name in names.items():
        (first, second, third), plain = ([f"{one[row]:.1f}" for one in found] for row in (name, "plain"))
        text = " ".join((RESULTS.parent / "methods" / f"{page}.md").read_text(encoding="utf-8").split())
        assert f"G-mean {first}, macro-F1 {second}, average precision {third};" in text
        assert f"the plain network has {plain[0]}, {plain[1]} and {plain[2]}," in text
    assert "three folds" in text


def test_figures_of_trials_on_the_pages_of_methods_are_those_of_the_results():
    trials = pd.read_csv(RESULTS / "trials_more.csv")
    cells = {f"{row['mean']:.1f} ± {row['std']:.1f}" for _, row in trials.iterrows()}
    for path in (RESULTS.parent / "methods").glob("*.md"):
        _, _, measured = path.read_text(encoding="utf-8").partition("In [the trials]")
        assert set(re.findall(r"\d+\.\d ± \d+\.\d", measured)) <= cells, path.name


#: Rows of the tables that learn weights on validation rows.
LEARN = ("Ren et al.", "Hu et al.", "Hu et al., floor 0", "Hu et al. + R", "ours")


def accuracies(file: str, task: str) -> dict[str, str]:
    """Return the per cent of each method whose setting was chosen on validation rows, as pages write them."""
    frame = pd.read_csv(RESULTS / f"{file}.csv").query("metric == 'accuracy' and chosen_on == 'validation'")
    frame = frame[frame["task"] == task].set_index("method")
    return {method: f"{mean:.1f}" for method, mean in frame["mean"].items()}


def rank_of(metric: str, method: str) -> str:
    frame = pd.read_csv(RESULTS / "benchmark.csv")
    scores = frame[frame["metric"] == metric].pivot(index="task", columns="variable", values="mean")
    return f"{ranks.average_ranks(scores)[method]:.1f}"


def test_figures_of_the_table_of_choices_are_those_of_the_results():
    text = (RESULTS.parent / "choosing.md").read_text(encoding="utf-8")
    table = text.partition("![")[0]
    few, fewer, many = (accuracies("sst2", task) for task in ("20:1000", "10:1000", "100:1000"))
    learned = sorted(few[m] for m in ("ours", "Ren et al.", "Hu et al., floor 0"))
    uses = sorted(many[m] for m in ("two-phase", *LEARN))
    wide, five = accuracies("sst2_text_network", "20:1000, TextFCN"), accuracies("sst5", "50:500")
    fifty = accuracies("validation_rows", "50 validation rows a class")
    g_mean, f1, precision = "G-mean, default decision", "macro-F1, default decision", "average precision"
    by_precision, by_f1 = (
        sorted((rank_of(metric, m) for m in LEARN), key=float) for metric in (precision, f1)
    )
    for quoted in (
        f"{many['plain, tuned threshold']} %; all weightings that use validation rows {uses[0]} to {uses[-1]} |",
        f"{few['two-phase']} %; {learned[0]} to {learned[-1]}; plain {few['plain']}, tuned threshold "
        f"{few['plain, tuned threshold']} |",
        f"{fewer['two-phase']} and {fewer['ours']} %;",
        f"{fifty['two-phase']} %, first by",
        f"{wide['ours']} and {wide['plain, tuned threshold']} %; Hu without a floor {wide['Hu et al., floor 0']} |",
        f"{five['proportion']} %; the plain network {five['plain']} |",
        f"boosted trees {rank_of(precision, 'boosted trees')}, plain network {rank_of(precision, 'plain')}, learned "
        f"weights {by_precision[0]} to {by_precision[-1]} |",
        f"{rank_of(f1, 'boosted trees')} and {rank_of(f1, 'plain')}; learned weights {by_f1[0]} to {by_f1[-1]} |",
        f"{rank_of(g_mean, 'proportion')} (scikit-learn's `MLPClassifier` with balanced weights "
        f"{rank_of(g_mean, 'MLPClassifier')}); the plain network comes from {rank_of(g_mean, 'plain')} to "
        f"{rank_of('G-mean, threshold tuned on validation rows', 'plain')} |",
    ):
        assert quoted in table


def test_figures_for_users_of_resampling_are_those_of_the_results():
    few = accuracies("sst2", "20:1000")
    text = (RESULTS.parent / "coming_from.md").read_text(encoding="utf-8")
    over, smote = (few[f"{name} + validation rows"] for name in ("random oversampling", "SMOTE"))
    assert f'had {over} %, SMOTE {smote}, `"two-phase"` {few["two-phase"]}' in text

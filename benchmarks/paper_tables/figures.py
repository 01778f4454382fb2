"""The figures of docs/results, drawn from the CSV files that lie beside them; nothing is run.

``python -m benchmarks.paper_tables.figures docs/results`` draws them, and puts alt text and captions into the pages.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from benchmarks.paper_tables import ablations
from benchmarks.paper_tables.look import (
    CHANCE,
    DPI,
    FONT,
    HUES,
    MARKERS,
    PUBLISHED,
    WIDTH,
    Drawn,
    bare,
    by_kind,
    key,
    kind_of,
    name_of,
    stamp,
)
from benchmarks.paper_tables.published import PUBLISHED as PUBLISHED_FIGURES
from benchmarks.paper_tables.ranks import average_ranks, critical_difference, plot_ranks

PANELS_A_ROW = 3


def accuracy(
    figures: pd.DataFrame,
    published: dict[str, dict[str, tuple[float, ...]]],
    chance: float | None,
    path: Path,
) -> Drawn:
    """Draw mean test accuracy with its standard deviation, one row a method and one panel a task.

    Parameters
    ----------
    figures : DataFrame with the columns task, method, chosen_on, mean, std and n, in per cent
    published : by task and method, mean and perhaps standard deviation
    chance : per cent that guessing gets, or None
    path : where the picture goes
    """
    dots(figures, published, chance).savefig(path, dpi=DPI)
    tasks = list(figures["task"].unique())
    return Drawn(
        _alt_of_accuracy(figures, tasks, chance),
        _caption(figures, any(published.get(task) for task in tasks)),
    )


def dots(
    figures: pd.DataFrame, published: dict[str, dict[str, tuple[float, ...]]], chance: float | None
) -> Figure:
    """Return the figure that `accuracy` saves."""
    tasks, methods = list(figures["task"].unique()), by_kind(list(figures["method"].unique()))
    kinds = [kind_of(method) for method in methods]
    heights = _heights(kinds)
    across = min(PANELS_A_ROW, len(tasks))
    down = -(-len(tasks) // across)
    with rc_context(FONT):
        figure = Figure(figsize=(WIDTH, (0.185 * heights[-1] + 0.75) * down + 0.3), layout="constrained")
        axes = figure.subplots(down, across, sharex="row", sharey=True, squeeze=False)
        for axis in axes.flat[len(tasks) :]:
            axis.set_axis_off()
        for axis, task in zip(axes.flat, tasks, strict=False):
            block = figures[figures["task"] == task].set_index("method").reindex(methods)
            theirs = published.get(task, {})
            for method, kind, height in zip(methods, kinds, heights, strict=True):
                mean, std = block.loc[method, ["mean", "std"]]
                look = {"color": HUES[kind], "marker": MARKERS[kind], "markersize": 4, "linewidth": 1.2}
                axis.errorbar(mean, height, xerr=0 if np.isnan(std) else std, capsize=2, zorder=3, **look)
                if method in theirs:
                    axis.plot(theirs[method][0], height, zorder=4, **PUBLISHED)
            if chance is not None:
                axis.axvline(chance, zorder=1, **CHANCE)
            axis.set_title(_broken(task))
            axis.grid(axis="x", alpha=0.3, linewidth=0.5)
            bare(axis)
        for axis in axes[:, 0]:
            axis.set_yticks(heights, [name_of(m) for m in methods])
            for text, kind in zip(axis.get_yticklabels(), kinds, strict=True):
                text.set_color(HUES[kind])
            axis.set_ylim(heights[-1] + 0.7, -0.7)
        figure.supxlabel("test accuracy, %", fontsize=8.5)
        some = any(published.get(task) for task in tasks)
        handles = key(kinds, chance=chance is not None, published=some)
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _heights(kinds: list[str]) -> list[float]:
    """Return the place of each row, with half a row of room between kinds."""
    gaps = [0.0, *(0.5 * (a != b) for a, b in pairwise(kinds))]
    return [float(h) for h in np.arange(len(kinds)) + np.cumsum(gaps)]


def _broken(task: str) -> str:
    return task.replace(", ", ",\n")


def _draws(figures: pd.DataFrame) -> str:
    """Return how many draws there are, by task where they differ."""
    n = figures.groupby("task", sort=False)["n"].max()
    if n.nunique() == 1:
        return f"{n.iloc[0]} draws"
    return "; ".join(f"{task}: {count} draws" for task, count in n.items())


def _caption(figures: pd.DataFrame, published: bool) -> str:
    parts = [
        f"Mean over draws ({_draws(figures)}); whiskers: one standard deviation to either side. The setting "
        f"is the one that was best on {figures['chosen_on'].iloc[0]} rows."
    ]
    if any(name_of(method).endswith(" + v") for method in figures["method"]):
        parts.append("“+ v”: the validation rows train as well.")
    if published:
        parts.append("Crosses: what the paper prints, on other features or rows (see the text).")
    return " ".join(parts)


def _alt_of_accuracy(figures: pd.DataFrame, tasks: list[str], chance: float | None) -> str:
    parts = [f"Dots with whiskers: test accuracy of {figures['method'].nunique()} methods."]
    for task in tasks:
        means = figures[figures["task"] == task].set_index("method")["mean"].sort_values(ascending=False)
        best = "; ".join(f"{name_of(m)} {v:.1f}" for m, v in means.iloc[:3].items())
        parts.append(f"{task}: highest {best}; lowest {name_of(means.index[-1])} {means.iloc[-1]:.1f}.")
    if chance is not None:
        parts.append(f"A dashed line marks chance, {chance:g}.")
    return " ".join(parts)


def over_validation_rows(figures: pd.DataFrame, chance: float, path: Path) -> Drawn:
    """Draw accuracy over the number of validation rows a class: methods left, controls right, one y-range."""
    figures = figures.assign(rows=figures["task"].str.extract(r"^(\d+)")[0].astype(int)).sort_values("rows")
    methods = list(figures["method"].unique())
    sizes = sorted(figures["rows"].unique())
    panels = [kind for kind in HUES if any(kind_of(m) == kind for m in methods)]
    dashes = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1))]
    with rc_context(FONT):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axis, kind in zip(axes, panels, strict=True):
            shown = [m for m in methods if kind_of(m) == kind]
            ends = {}
            for i, method in enumerate(shown):
                block = figures[figures["method"] == method]
                spread = np.exp(0.035 * (i - (len(shown) - 1) / 2))  # whiskers beside each other
                look = {"color": HUES[kind], "linestyle": dashes[i % len(dashes)], "linewidth": 1.2}
                axis.errorbar(
                    block["rows"] * spread, block["mean"], yerr=block["std"], elinewidth=0.5, alpha=0.9,
                    marker=("o", "s", "^", "D", "v")[i % 5], markersize=3.5, **look,
                )  # fmt: skip
                ends[name_of(method)] = float(block["mean"].iloc[-1])
            for name, height in _apart(ends, 1.25).items():
                axis.annotate(
                    name, (sizes[-1], ends[name]), (sizes[-1] * 1.5, height), color=HUES[kind], va="center",
                    arrowprops={
                        "arrowstyle": "-", "color": HUES[kind], "linewidth": 0.6, "relpos": (0, 0.5), "shrinkA": 1,
                        "shrinkB": 3,
                    },
                )  # fmt: skip
            axis.set_xscale("log")
            axis.plot([sizes[0] * 0.85, sizes[-1] * 1.2], [chance] * 2, **CHANCE)
            axis.spines["bottom"].set_bounds(sizes[0] * 0.85, sizes[-1] * 1.2)
            axis.set_xticks(sizes, [str(size) for size in sizes])
            axis.minorticks_off()
            axis.set(xlim=(sizes[0] * 0.85, sizes[-1] * 9))
            axis.grid(axis="y", alpha=0.3, linewidth=0.5)
            bare(axis)
        axes[0].set_ylabel("accuracy on the dev split, %")
        figure.supxlabel("validation rows a class", fontsize=8.5)
        handles = key(panels, chance=True, published=False)
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
        figure.savefig(path, dpi=DPI)
    first, last = (figures[figures["rows"] == n].set_index("method")["mean"] for n in (sizes[0], sizes[-1]))
    lines = "; ".join(f"{name_of(m)} {first[m]:.1f} to {last[m]:.1f}" for m in methods)
    return Drawn(
        f"Lines of accuracy over {sizes[0]} to {sizes[-1]} validation rows a class, first and last value: {lines}. "
        f"A dashed line marks chance, {chance:g}.",
        f"Mean over draws ({_draws(figures)}); whiskers: one standard deviation to either side, moved a little "
        "sideways where they would cover each other. “+ v”: the validation rows train as well.",
    )


def _apart(heights: dict[str, float], least: float) -> dict[str, float]:
    """Return the heights moved up so that neighbours are at least so far apart, centred on where they were."""
    names = sorted(heights, key=lambda name: heights[name])
    moved: list[float] = []
    for name in names:
        moved.append(max(heights[name], moved[-1] + least if moved else -np.inf))
    shift = np.mean(moved) - np.mean([heights[name] for name in names])
    return {name: value - float(shift) for name, value in zip(names, moved, strict=True)}


def critical_differences(panels: dict[str, pd.DataFrame], path: Path) -> Drawn:
    """Draw a diagram of average ranks for each table of scores (sets by methods)."""
    plot_ranks(panels, path)
    scores = next(iter(panels.values()))
    difference = critical_difference(scores.shape[1], len(scores))
    leaders = "; ".join(
        f"{title}: first {', '.join(f'{name_of(m)} ({r:.1f})' for m, r in ranked.iloc[:3].items())}, "
        f"last {name_of(ranked.index[-1])} ({ranked.iloc[-1]:.1f})"
        for title, ranked in ((title, average_ranks(one)) for title, one in panels.items())
    )
    return Drawn(
        f"Diagrams of average ranks of {scores.shape[1]} methods, one below the other. {leaders}.",
        f"Average ranks over {len(scores)} sets (1 is best) of the mean over folds; no whiskers. Methods under one "
        f"bar differ by less than the critical difference of {difference:.1f} (Nemenyi, 5 %). Scores that agree to all "
        "stored digits share a rank. Blue: methods of this package, brown: controls, purple: peers.",
    )


def _chosen(path: Path) -> pd.DataFrame:
    """Return the accuracies whose setting was chosen on validation rows."""
    return pd.read_csv(path).query("metric == 'accuracy' and chosen_on == 'validation'")


def _ranked(path: Path) -> dict[str, pd.DataFrame]:
    frame = pd.read_csv(path)
    column = "variable" if "variable" in frame else "method"
    return {
        str(title): block.pivot(index="task", columns=column, values="mean")
        for title, block in frame.groupby("metric", sort=False)
    }


#: By table, the per cent of balanced test rows that guessing gets right.
CHANCE_OF = {
    "liu4": 20.0,
    "liu5": 50.0,
    "liu6": 50.0,
    "liu9": 50.0,
    "validation": 50.0,
    "imdb": 50.0,
    "qi1": 10.0,
}

#: By the name of the CSV file and the picture: the page it stands on, and its table.
PAGES = {
    "sst2": ("sst2", "liu5"),
    "sst2_text_network": ("sst2", "liu5"),
    "sst5": ("sst5", "liu4"),
    "aps": ("aps", "liu9"),
    "validation_rows": ("validation_rows", "validation"),
    "benchmark": ("benchmark", "benchmark"),
    "ablations": ("ablations", "ablations"),
}


def of_table(table: str, figures: pd.DataFrame, path: Path) -> Drawn:
    """Draw the accuracies of a table, over the number of rows where that is what it is about."""
    if table == "validation":
        return over_validation_rows(figures, CHANCE_OF[table], path)
    return accuracy(figures, PUBLISHED_FIGURES.get(table, {}), CHANCE_OF.get(table), path)


def draw(name: str, folder: Path) -> Drawn:
    """Draw the figure of a CSV file of the folder beside it."""
    stored, picture = folder / f"{name}.csv", folder / f"{name}.png"
    if name == "ablations":
        drawn = ablations.draw(pd.read_csv(stored), picture)
    elif name == "benchmark":
        drawn = critical_differences(_ranked(stored), picture)
    else:
        drawn = of_table(PAGES[name][1], _chosen(stored), picture)
    stamp(picture, stored)
    return drawn


def put_into(page: str, picture: str, drawn: Drawn) -> str:
    """Return the text of a page with the picture's alt text and caption in place of those that it had."""
    pattern = rf"!\[[^\]]*\]\({re.escape(picture)}\)(\n\n\*[^\n]*\*(?=\n|$))?"
    replaced, n = re.subn(pattern, lambda _: drawn.markdown(picture), page)
    if n != 1:
        raise ValueError(f"The page must show {picture} once, got {n} times.")
    return replaced


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw every figure whose CSV file lies in the folder, and bring its page up to date."""
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    for name, (page, _) in PAGES.items():
        path = folder / f"{page}.md"
        text = path.read_text(encoding="utf-8")
        path.write_text(put_into(text, f"{name}.png", draw(name, folder)), encoding="utf-8")
        print(folder / f"{name}.png")


if __name__ == "__main__":
    main()

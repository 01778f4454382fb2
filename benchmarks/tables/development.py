"""How the defaults of `ReweightedClassifier` were chosen: `python -m benchmarks.tables.development`.

Settings are compared on halves of three development sets (us_crime, oil, sick_euthyroid), by the rules that a user
meets: the estimator's own decision, raw columns, no step before it. A rerun goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from benchmarks.tables.evaluation import FIGURES, figures_of
from skreweight import ReweightedClassifier
from skreweight.datasets import fetch_benchmark
from skreweight.weighting import get_weighting

SETS = ("us_crime", "oil", "sick_euthyroid")
WEIGHTINGS = ("none", "proportion", "logit-adjustment", "absgd", "two-phase", "ren", "hu", "ours")
#: What is varied, one line each; every line is tried with every one of its weightings.
SETTINGS: dict[str, Mapping[str, Any]] = {
    "lr 0.01, 15 + 10 epochs": {"lr": 1e-2, "warmup_epochs": 15, "max_epochs": 10},
    "lr 0.01, 5 + 5 epochs": {"lr": 1e-2, "warmup_epochs": 5, "max_epochs": 5},
    "lr 0.003, 15 + 10 epochs": {"lr": 3e-3, "warmup_epochs": 15, "max_epochs": 10},
    "lr 0.003, 5 + 5 epochs": {"lr": 3e-3, "warmup_epochs": 5, "max_epochs": 5},
    "lr 0.001, 15 + 10 epochs": {"lr": 1e-3, "warmup_epochs": 15, "max_epochs": 10},
    "lr 0.001, 15 + 10 epochs, batch 32": {
        "lr": 1e-3,
        "warmup_epochs": 15,
        "max_epochs": 10,
        "batch_size": 32,
    },
    "lr 0.003, 15 + 10 epochs, a fifth of the rarest class validates": {
        "lr": 3e-3,
        "warmup_epochs": 15,
        "max_epochs": 10,
        "validation_data": 0.2,
    },
}
#: Numbers of epochs and sizes of a batch at the learning rate and the validation rows that were chosen.
_CHOSEN: dict[str, Any] = {"lr": 3e-3, "validation_data": None}
LATER: dict[str, Mapping[str, Any]] = {
    name: {**_CHOSEN, "warmup_epochs": first, "max_epochs": second, "batch_size": size}
    for name, first, second, size in [
        ("15 + 10 epochs, batch 128", 15, 10, 128),
        ("8 + 5 epochs, batch 128", 8, 5, 128),
        ("30 + 20 epochs, batch 128", 30, 20, 128),
        ("15 + 10 epochs, batch 32", 15, 10, 32),
        ("15 + 10 epochs, batch 64", 15, 10, 64),
        ("15 + 10 epochs, batch 256", 15, 10, 256),
    ]
}
SETTINGS |= LATER
COLUMNS = ["weighting", "setting", "set", "draw", "fold", *FIGURES, "seconds"]


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Run what is missing, and print and return the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.development", description=__doc__)
    parser.add_argument("--data", help="folder of the data sets; default: SKREWEIGHT_DATA")
    parser.add_argument("--out", type=Path, default=Path("results/development.csv"))
    parser.add_argument("--page", type=Path, help="run nothing, write all that lies in --out as a page")
    parser.add_argument("--draws", type=int, default=2, help="how often the sets are halved")
    parser.add_argument("--weightings", nargs="+", default=list(WEIGHTINGS))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    options = parser.parse_args(arguments)
    if options.page is not None:
        return write_page(pd.read_csv(options.out), options.page)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: dict(SETTINGS[name]) for name in options.settings}
    known = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=COLUMNS)
    done = set(known[COLUMNS[:5]].itertuples(index=False, name=None))
    sets = fetch_benchmark(list(SETS), data_home=options.data)
    runs = [
        (weighting, setting, name, draw)
        for draw in range(options.draws)
        for setting in settings
        for weighting in options.weightings
        for name in SETS
        if (weighting, setting, name, draw, 1) not in done
    ]
    with options.out.open("a", newline="") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(COLUMNS)
        for run in tqdm(runs):
            for row in _halves(sets[run[2]], *run, settings[run[1]]):
                writer.writerow(row)
            file.flush()
    rows = pd.read_csv(options.out)
    table = summary(rows[rows["setting"].isin(settings) & rows["weighting"].isin(options.weightings)])
    print(table.to_markdown())
    return table


def write_page(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write the settings that have more draws, all on the first draw, and what was varied later."""
    one = ["weighting", "setting"]
    later, rows = rows[rows["setting"].isin(LATER)], rows[~rows["setting"].isin(LATER)]
    first = rows[rows["draw"] == rows["draw"].min()]
    n_draws = rows.groupby(one)["draw"].transform("nunique")
    more = rows[n_draws == n_draws.max()]
    parts = [
        "# How the defaults of the classifier were chosen",
        "`python -m benchmarks.tables.development`: raw columns, the estimator's own decision, halves of us_crime, oil "
        "and sick_euthyroid; mean over sets and halves ± standard deviation over draws; seconds of CPU a fit. The rank "
        "is the mean over the four figures and three sets among the rows of the same table. Where a row does not say "
        "otherwise, at most ten rows a class validate. Differences of the size of the deviations mean nothing.",
        f"## {n_draws.max()} draws",
        summary(more).to_markdown(index=False),
        "## One draw",
        summary(first).to_markdown(index=False).replace(" ± nan", ""),
    ]
    if len(later):
        parts += [
            f"## Epochs and batches, {later['draw'].nunique()} draws",
            "With what was chosen above: a learning rate of 0.003, a fifth of the rarest class validates.",
            summary(later).to_markdown(index=False),
        ]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return summary(more)


def _halves(
    data: Any, weighting: str, setting: str, name: str, draw: int, options: Mapping[str, Any]
) -> list[list[Any]]:
    """Train on each half and look at the other."""
    X, y = data.data, (data.target == 1).astype(int)
    found = []
    for fold, (train, test) in enumerate(
        StratifiedKFold(2, shuffle=True, random_state=draw).split(X, y), start=0
    ):
        if get_weighting(weighting).needs_validation:
            ten = max(1, min(10, int(0.2 * np.bincount(y[train]).min())))
            options = {"validation_data": ten, **options}
        net = ReweightedClassifier(weighting=weighting, random_state=draw, **options)
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.fit(X[train], y[train])
        seconds = time.process_time() - start
        predicted = net.predict(X[test])
        figures = figures_of(y[test], predicted, predicted, net.predict_proba(X[test]).astype(np.float64))
        found.append([weighting, setting, name, draw, fold, *(f"{figures[n]:.5f}" for n in FIGURES), seconds])
    return found


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return mean ± standard deviation over the draws of the mean over sets and folds, best average rank first.

    The rank is the mean over the four figures and the three sets among all the rows of the table.
    """
    one = ["weighting", "setting"]
    by_draw = rows.groupby([*one, "draw"])[list(FIGURES)].mean()
    mean, spread = by_draw.groupby(one).mean(), by_draw.groupby(one).std()
    table = pd.DataFrame(
        {n: [f"{m:.3f} ± {s:.3f}" for m, s in zip(mean[n], spread[n], strict=True)] for n in FIGURES},
        index=mean.index,
    )
    by_set = rows.groupby([*one, "set"])[list(FIGURES)].mean()
    by_set["log_loss"] *= -1
    ranks = by_set.groupby("set").rank(ascending=False).mean(axis=1).groupby(one).mean()
    table["seconds"] = rows.groupby(one)["seconds"].mean().map("{:.1f}".format)
    table["average rank"] = ranks
    return table.sort_values("average rank").round({"average rank": 1}).reset_index()


if __name__ == "__main__":
    main()

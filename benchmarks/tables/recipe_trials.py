"""What the ensemble's recipe gains and what it takes: `python -m benchmarks.tables.recipe_trials`.

Variants of the recipe are compared on halves of the three development sets (us_crime, oil, sick_euthyroid), by the
ensemble's own probabilities and decisions. A rerun goes on where the last one ended.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from benchmarks.results_file import appended, whole_rows
from benchmarks.tables.development import SETS
from benchmarks.tables.evaluation import FIGURES, figures_of
from skreweight import ReweightedEnsembleClassifier
from skreweight._ensemble import recipe
from skreweight.datasets import fetch_benchmark
from skreweight.modules import TableNet

#: Constants of `skreweight._ensemble.recipe`, and parameters of the ensemble in small letters.
VARIANTS: dict[str, Mapping[str, Any]] = {
    "the recipe": {},
    "half of the looks": {"N_LOOKS": 10},
    "at least 200 steps": {"FEWEST_STEPS": 200},
    "twice the steps": {"N_EPOCHS": 80, "FEWEST_STEPS": 600, "MOST_STEPS": 1400},
    "batches of 64": {"BATCH_SIZE": 64, "N_EPOCHS": 20},
    "96 units": {"hidden": (96, 96)},
    "64 units": {"hidden": (64, 64)},
    "no dropout": {"DROPOUT": 0.0},
    "3 folds": {"n_folds": 3},
    "2 rounds": {"n_repeats": 2},
}
KEY = ["variant", "set", "draw", "half"]
COLUMNS = [*KEY, *FIGURES, "seconds"]


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Run what is missing, write the page and return its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables.recipe_trials", description=__doc__)
    parser.add_argument("--data", help="folder of the data sets; default: SKREWEIGHT_DATA")
    parser.add_argument("--out", type=Path, default=Path("results"), help="a rerun resumes what lies here")
    parser.add_argument("--draws", type=int, default=2, help="how often the sets are halved")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    options = parser.parse_args(arguments)
    path = options.out / "recipe.csv"
    sets = fetch_benchmark(list(SETS), data_home=options.data)
    done = set(finished(path)[KEY].itertuples(index=False, name=None))
    runs = [
        (variant, name, draw, half)
        for draw in range(options.draws)
        for name in SETS
        for half in (0, 1)
        for variant in options.variants
        if (variant, name, draw, half) not in done
    ]
    for _ in appended((_run(sets[one[1]], *one) for one in tqdm(runs)), path, COLUMNS):
        pass
    table = write_page(finished(path), options.out / "recipe.md")
    print(table.to_markdown(index=False))
    return table


def finished(path: Path) -> pd.DataFrame:
    """Return the rows of a results file."""
    rows = whole_rows(path, COLUMNS)
    rows[COLUMNS[4:]] = rows[COLUMNS[4:]].apply(pd.to_numeric)
    return rows.astype({"draw": int, "half": int})


def write_page(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write the table as a page."""
    table = summary(rows)
    text = (
        "# Variants of the ensemble's recipe\n\n"
        "`python -m benchmarks.tables.recipe_trials`: halves of us_crime, oil and sick_euthyroid, the sets that "
        f"choices are made on; {rows['draw'].nunique()} draws of the halves. G-mean is of the ensemble's own decision, "
        'macro-F1 of `decision="f1_macro"`. Mean over sets and halves; in brackets the difference to the recipe on the '
        "same rows ± its standard error over sets, halves and draws; seconds of CPU a fit. In the recipe the number of "
        "steps is "
        f"{recipe.N_EPOCHS} epochs, at least {recipe.FEWEST_STEPS} and at most {recipe.MOST_STEPS}, in batches of "
        f"{recipe.BATCH_SIZE}.\n\n"
    )
    path.write_text(text + table.to_markdown(index=False) + "\n", encoding="utf-8")
    return table


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the means of each variant, and its differences to the recipe row by row."""
    rows = rows.set_index(KEY)
    base = rows.xs("the recipe")
    lines = []
    for variant in rows.index.unique("variant"):
        own = rows.xs(variant)
        line = {"": variant}
        for name in FIGURES:
            apart = (own[name] - base[name]).dropna()
            error = apart.std() / np.sqrt(len(apart))
            beside = "" if variant == "the recipe" else f" ({apart.mean():+.4f} ± {error:.4f})"
            line[name] = f"{own[name].mean():.3f}{beside}"
        line["seconds"] = f"{own['seconds'].mean():.1f}"
        lines.append(line)
    return pd.DataFrame(lines)


def _run(data: Any, variant: str, name: str, draw: int, half: int) -> dict[str, Any]:
    """Train on one half and look at the other."""
    X, y = data.data, (data.target == 1).astype(int)
    train, test = list(StratifiedKFold(2, shuffle=True, random_state=draw).split(X, y))[half]
    changes = dict(VARIANTS[variant])
    parameters = {n: changes.pop(n) for n in ("n_folds", "n_repeats") if n in changes}
    clf = ReweightedEnsembleClassifier(random_state=draw, **parameters)
    with _changed(changes), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.process_time()
        clf.fit(X[train], y[train])
        seconds = time.process_time() - start
    for_g_mean = clf.predict(X[test])
    for_f1 = clf.set_params(decision="f1_macro").predict(X[test])
    figures = figures_of(y[test], for_g_mean, for_f1, clf.predict_proba(X[test]))
    row = dict(zip(KEY, (variant, name, draw, half), strict=True))
    return row | {n: f"{v:.6f}" for n, v in figures.items()} | {"seconds": f"{seconds:.3f}"}


def _changed(changes: Mapping[str, Any]) -> Any:
    """Context in which the recipe has other constants, or its network other layers."""
    changes = dict(changes)
    hidden = changes.pop("hidden", None)
    if hidden is None:
        return patch.multiple(recipe, **changes) if changes else nullcontext()

    class Narrow(TableNet):
        def __init__(self, n_features: int, n_classes: int, **settings: Any) -> None:
            super().__init__(n_features, n_classes, hidden=hidden, **settings)

    return patch.multiple(recipe, TableNet=Narrow, **changes)


if __name__ == "__main__":
    main()

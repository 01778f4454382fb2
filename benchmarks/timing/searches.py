"""Searches: candidates trained together beside scikit-learn's search over the same candidates.

Every turn runs in a process of its own, so that its peak of memory is its own too; contestants take turns.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.utils import _safe_indexing
from skorch import NeuralNetClassifier

from benchmarks.timing.epochs import CLOCKS
from benchmarks.timing.memory import _peak, _reset_peak
from benchmarks.timing.problems import SmallConvNet
from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled
from skreweight.model_selection import PackedGridSearchCV
from skreweight.modules import MLP

#: Seconds after which no further round of a case begins.
SECONDS_OF_CASE = 55.0


@dataclass(frozen=True)
class SearchCase:
    """One grid.

    Attributes
    ----------
    title : str
    estimator : callable () -> estimator
    grid : parameters and values
    n_folds : int
    images : bool
        Whether rows are images, not the bundled digits.
    skorch : bool
        Whether stock skorch searches as many candidates with as many steps beside.
    """

    title: str
    estimator: Callable[..., Any]
    grid: Any
    n_folds: int
    images: bool = False
    skorch: bool = False


class DoubleMLP(MLP):
    """The default network in float64, where rounding stays too small to turn a row's class."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__(n_features, n_classes)
        self.double()


def _readme(**options: Any) -> Any:
    net = ReweightedClassifier(weighting="ours", random_state=0, **options)
    return make_pipeline(SimpleImputer(), QuantileTransformer(n_quantiles=500), net)


def _net(weighting: str = "absgd", **own: Any) -> Callable[..., Any]:
    return lambda **options: ReweightedClassifier(weighting=weighting, random_state=0, **{**own, **options})


LAMBDAS = [float(v) for v in np.geomspace(0.1, 20, 12)]
README_GRID = [
    {"reweightedclassifier__weighting": ["absgd"], "reweightedclassifier__weighting__lam": [0.1, 1, 10]},
    {
        "reweightedclassifier__weighting": ["ours"],
        "reweightedclassifier__weighting__step_size": [1e-2, 1e-1, 1],
        "reweightedclassifier__weighting__lp_norm": [2, 4],
        "reweightedclassifier__weighting__lp_coef": [0, 1e-4, 1e-2],
    },
]
OURS_GRID = {
    "weighting__step_size": [1e-2, 1e-1, 1],
    "weighting__decay": [2.0, 10.0],
    "weighting__lp_norm": [2, 4],
    "weighting__lp_coef": [0, 1e-4, 1e-3, 1e-2],
}
CASES = {
    "readme": SearchCase("the README's grid, 21 candidates, 5 folds, in a pipeline", _readme, README_GRID, 5),
    "readme64": SearchCase(
        "the README's grid in float64", lambda **options: _readme(module=DoubleMLP, **options), README_GRID, 5
    ),
    "absgd": SearchCase(
        "12 λ of `absgd`, 5 folds", _net(), {"weighting__lam": LAMBDAS}, 5, skorch=True
    ),
    "ours": SearchCase("48 settings of `ours`, 2 folds", _net("ours"), OURS_GRID, 2),
    "wide": SearchCase(
        "4 λ of `absgd`, 3 folds, layers of 1,024",
        _net(module__hidden=(1024, 1024), warmup_epochs=2, max_epochs=3),
        {"weighting__lam": LAMBDAS[::3]},
        3,
    ),
    "images": SearchCase(
        "4 λ of `absgd`, 2 folds, convolutions on 3 × 32 × 32",
        _net(module=SmallConvNet, module__n_classes=2, warmup_epochs=1, max_epochs=1),
        {"weighting__lam": LAMBDAS[::3]},
        2,
        images=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class SearchLine:
    """What one contestant took in a case, by round, and how far the packed search's scores were from its own.

    ``score_difference`` is the largest over candidates and folds in the first round, ``same_best`` whether the same
    candidate had the best mean.
    """

    case: str
    contestant: str
    seconds: list[float]
    ratios: list[float]
    peak_mb: float
    process_mb: float
    n_candidates: int
    score_difference: float
    same_best: bool

    @property
    def ratio(self) -> float:
        """How many times as long as the packed search; the median over the rounds."""
        return statistics.median(self.ratios)


def contestants_of(case: SearchCase) -> list[str]:
    """Return who takes turns in a case."""
    return ["packed", "plain", "skorch"] if case.skorch else ["packed", "plain"]


def measure_searches(names: list[str], *, n_rounds: int, clock: str, quick: bool = False) -> list[SearchLine]:
    """Time the searches, contestant by contestant within each round.

    Parameters
    ----------
    names : list of str
        Of `CASES`.
    n_rounds : int
        At most; no round begins that would end after the case's time.
    clock : str
        Of `benchmarks.timing.epochs.CLOCKS`.
    quick : bool, default=False
        Few rows and epochs: tries the script.
    """
    lines = []
    for name in names:
        case = CASES[name]
        rounds: list[dict[str, dict[str, Any]]] = []
        begin = time.perf_counter()
        while len(rounds) < n_rounds:
            spent = time.perf_counter() - begin
            if rounds and spent + spent / len(rounds) > SECONDS_OF_CASE:
                break
            rounds.append({who: _turn(name, who, clock, quick) for who in contestants_of(case)})
        for who in contestants_of(case):
            seconds = [turn[who]["seconds"] for turn in rounds]
            ratios = [turn[who]["seconds"] / turn["packed"]["seconds"] for turn in rounds]
            peak, process = (
                statistics.median(turn[who][mb] for turn in rounds) for mb in ("peak_mb", "process_mb")
            )
            n_candidates = int(rounds[0][who]["n_candidates"])
            scores, packed = (np.array(rounds[0][k]["scores"]) for k in (who, "packed"))
            best, of_packed = (rounds[0][k]["best"] for k in (who, "packed"))
            lines.append(
                SearchLine(
                    name, who, seconds, ratios, peak, process, n_candidates,
                    float(np.abs(scores - packed).max()), best == of_packed,
                )
            )  # fmt: skip
    return lines


def _turn(name: str, who: str, clock: str, quick: bool) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.timing.searches",
        name,
        who,
        clock,
        "quick" if quick else "full",
    ]
    root = Path(__file__).resolve().parents[2]
    print(f"{name}: {who}", file=sys.stderr)
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}, {who}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _rows(case: SearchCase, quick: bool) -> tuple[Any, Any]:
    if case.images:
        generator = np.random.default_rng(0)
        n_rows = 80 if quick else 1200
        X = generator.standard_normal((n_rows, 3, 32, 32), dtype=np.float32)
        return X, (np.arange(n_rows) % 4 == 0).astype(int)
    X, y = load_bundled(return_X_y=True)
    if case.grid is not README_GRID:
        X = StandardScaler().fit_transform(X).astype(np.float32)
    rare = np.flatnonzero(y == "pos")
    if quick:
        chosen = np.concatenate([np.flatnonzero(y == "neg")[:150], rare[:40]])
        X, y = _safe_indexing(X, chosen), _safe_indexing(y, chosen)
    return X, y


def _search(case: SearchCase, who: str, quick: bool) -> Any:
    short = {"warmup_epochs": 1, "max_epochs": 1} if quick else {}
    options = {"cv": case.n_folds, "scoring": "balanced_accuracy", "refit": False}
    if who == "skorch":
        net = case.estimator(**short)
        stock = NeuralNetClassifier(
            MLP, module__n_features=64, module__n_classes=2, criterion=torch.nn.CrossEntropyLoss, lr=net.lr,
            optimizer=net.optimizer, batch_size=net.batch_size, max_epochs=net.warmup_epochs + net.max_epochs,
            train_split=None, verbose=0,
        )  # fmt: skip
        return GridSearchCV(stock, {"lr": [float(v) for v in np.geomspace(1e-3, 1e-1, 12)]}, **options)
    kind = PackedGridSearchCV if who == "packed" else GridSearchCV
    return kind(case.estimator(**short), case.grid, **options)


def _run_turn(name: str, who: str, clock: str, size: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    case, quick = CASES[name], size == "quick"
    warm = _rows(case, True)
    ReweightedClassifier(SmallConvNet(2) if case.images else None, weighting="none", max_epochs=1).fit(*warm)
    X, y = _rows(case, quick)
    if who == "skorch":
        y = (y == "pos").astype(np.int64)
    search = _search(case, who, quick)
    tell = CLOCKS[clock]
    before = psutil.Process().memory_info().rss
    _reset_peak()
    begin = tell()
    search.fit(X, y)
    seconds, results = tell() - begin, search.cv_results_
    return {
        "seconds": seconds,
        "scores": [results[f"split{k}_test_score"].tolist() for k in range(case.n_folds)],
        "best": int(np.argmax(results["mean_test_score"])),
        "peak_mb": (_peak() - before) / 1e6,
        "process_mb": _peak() / 1e6,
        "n_candidates": len(search.cv_results_["params"]),
    }


if __name__ == "__main__":
    print(json.dumps(_run_turn(*sys.argv[1:5])))

"""Searches spread over processes by Dask and Ray: the serial results, bit for bit, a killed worker included.

Ensembles too, whose results are the serial ones but for rounding.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight.model_selection import PackedGridSearchCV

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
GRID = {"weighting__lam": [0.5, 1.0, 5.0], "lr": [0.01, 0.1]}
SEARCHES = pytest.mark.parametrize("search", [PackedGridSearchCV, GridSearchCV])


def rows() -> tuple[Any, Any]:
    X, y = make_classification(300, 8, weights=[0.85], random_state=0)
    return X.astype(np.float32), y


def estimator() -> ReweightedClassifier:
    return ReweightedClassifier(weighting="absgd", warmup_epochs=1, max_epochs=1, random_state=0)


def _n_executed(dask_worker: Any) -> int:
    return int(dask_worker.state.executed_count)


def check_same(found: Any, serial: Any) -> None:
    X, _ = rows()
    for name, values in serial.cv_results_.items():
        if "time" not in name and name != "params":
            assert_array_equal(np.asarray(found.cv_results_[name]), np.asarray(values), err_msg=name)
    assert found.best_params_ == serial.best_params_
    assert_array_equal(found.predict_proba(X), serial.predict_proba(X))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip(
        "distributed", reason="dask is not installed: pip install 'skreweight[scale]'"
    )
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@SEARCHES
def test_on_dask(search: Any, cluster: Any) -> None:
    X, y = rows()
    serial = search(estimator(), GRID, cv=2, n_jobs=1).fit(X, y)
    with joblib.parallel_config("dask", scatter=[X, y]):
        found = search(estimator(), GRID, cv=2).fit(X, y)
    check_same(found, serial)


@pytest.mark.parametrize("members", [None, "absgd"])
def test_an_ensemble_on_dask(members: str | None, cluster: Any) -> None:
    X, y = rows()
    own = None if members is None else estimator().set_params(weighting=members)
    ensemble = ReweightedEnsembleClassifier(own, n_folds=4, n_steps=20, random_state=0)
    serial = clone(ensemble).fit(X, y)
    before = cluster.run(_n_executed)
    with joblib.parallel_config("dask"):
        found = clone(ensemble).fit(X, y)
    assert all(n > before[worker] for worker, n in cluster.run(_n_executed).items()), "each has a part"
    assert_allclose(found.oof_proba_, serial.oof_proba_, atol=1e-5)
    assert_allclose(found.predict_proba(X), serial.predict_proba(X), atol=1e-5)


LOST = "joblib scatters the indices of a fold to one worker: they are gone with it, and GridSearchCV ends with an error"


@pytest.mark.parametrize(
    "search",
    [PackedGridSearchCV, pytest.param(GridSearchCV, marks=pytest.mark.xfail(strict=False, reason=LOST))],
)
def test_a_killed_worker_changes_nothing(search: Any, cluster: Any, tmp_path: Path) -> None:
    X, y = rows()
    folder = str(tmp_path)

    def scored(net: Any, X: Any, y: Any) -> float:  # cannot be imported by name: it travels whole
        (Path(folder) / str(os.getpid())).touch()
        time.sleep(0.5)
        return float(net.predict_proba(X)[:, 1] @ y)

    serial = search(estimator(), GRID, cv=2, n_jobs=1, scoring=scored).fit(X, y)
    for file in tmp_path.iterdir():
        file.unlink()
    killed = []

    def kill_one() -> None:
        for _ in range(1200):
            at_work = [int(file.name) for file in tmp_path.iterdir()]
            if at_work:
                killed.append(at_work[0])
                os.kill(at_work[0], signal.SIGKILL)
                return
            time.sleep(0.1)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with joblib.parallel_config("dask"):
        found = search(estimator(), GRID, cv=2, scoring=scored).fit(X, y)
    killer.join()
    assert killed and killed[0] != os.getpid()
    check_same(found, serial)


@SEARCHES
def test_on_ray(search: Any) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install ray")
    from ray.util.joblib import register_ray

    X, y = rows()
    serial = search(estimator(), GRID, cv=2, n_jobs=1).fit(X, y)
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        register_ray()
        with joblib.parallel_config("ray"):
            found = search(estimator(), GRID, cv=2).fit(X, y)
    finally:
        ray.shutdown()
    check_same(found, serial)

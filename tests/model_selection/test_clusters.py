"""Searches and ensembles on Dask and Ray: the serial results, bit for bit, though workers are killed."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight._pack import spread
from skreweight.model_selection import PackedGridSearchCV

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
GRID = {"weighting__lam": [0.5, 1.0, 5.0], "lr": [0.01, 0.1]}
#: Packs of at most so many networks are the same packs for any number of processes.
SEARCHES = {
    "packed": lambda net, **options: PackedGridSearchCV(net, GRID, max_pack_size=4, **options),
    "plain": lambda net, **options: GridSearchCV(net, GRID, **options),
}
ENSEMBLES = {
    "recipe": lambda: ReweightedEnsembleClassifier(n_folds=4, n_steps=20, max_pack_size=3, random_state=0),
    "absgd": lambda: ReweightedEnsembleClassifier(estimator(), n_folds=4, max_pack_size=2, random_state=0),
}


def rows() -> tuple[Any, Any]:
    X, y = make_classification(301, 7, weights=[0.85], random_state=0)
    return X.astype(np.float32), y


def estimator(**options: Any) -> ReweightedClassifier:
    own = {"weighting": "absgd", "warmup_epochs": 1, "max_epochs": 1, "random_state": 0, **options}
    return ReweightedClassifier(**own)


def check_same(found: Any, serial: Any) -> None:
    """Every score, to the last bit of a float: a score of losses shows rounding, one of labels would hide it."""
    for name, values in serial.cv_results_.items():
        if "time" not in name and name != "params":
            assert_array_equal(np.asarray(found.cv_results_[name]), np.asarray(values), err_msg=name)
    assert found.best_params_ == serial.best_params_
    X, _ = rows()
    assert_array_equal(found.predict_proba(X), serial.predict_proba(X))


def check_same_ensemble(found: Any, serial: Any) -> None:
    X, _ = rows()
    assert_array_equal(found.oof_proba_, serial.oof_proba_)
    assert_array_equal(found.member_weights_, serial.member_weights_)
    assert_array_equal(found.predict_proba(X), serial.predict_proba(X))


def _n_executed(dask_worker: Any) -> int:
    return int(dask_worker.state.executed_count)


def clusters(n_threads: int) -> Iterator[Any]:
    distributed = pytest.importorskip(
        "distributed", reason="dask is not installed: pip install 'skreweight[scale]'"
    )
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=n_threads, processes=True, dashboard_address=None
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    yield from clusters(1)


@pytest.fixture
def of_two_threads() -> Iterator[Any]:
    """For one test alone: joblib takes the client that was opened last, so that no later test would use the other."""
    yield from clusters(2)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_on_dask(name: str, cluster: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rows()
    real, kept = spread._kept, []
    monkeypatch.setattr(
        spread, "_kept", lambda client, value, n: kept.append(value[0]) or real(client, value, n)
    )
    options = {"cv": 2, "scoring": "neg_log_loss"}
    serial = SEARCHES[name](estimator(), n_jobs=1, **options).fit(X, y)
    before = cluster.run(_n_executed)
    scattered = {} if name == "packed" else {"scatter": [X, y]}
    with joblib.parallel_config("dask", **scattered):
        found = SEARCHES[name](estimator(), verbose=1, **options).fit(X, y)
    check_same(found, serial)
    assert any(n > before[worker] for worker, n in cluster.run(_n_executed).items()), "none worked"
    if name == "packed":
        ((sent, _),) = kept
        assert sent is X, "once, and as the user gave it"
        shown = capsys.readouterr()
        assert "12 fits: 100%" in shown.err  # the bar moves as parts come back
        assert "12 of 12 fits were trained in packs (4, of up to 3 networks)" in shown.out


def test_a_search_on_dask_in_packs_of_any_size(cluster: Any) -> None:
    """Each worker's part is a pack where nothing is said: the serial scores, but for rounding."""
    X, y = rows()
    serial, found = (PackedGridSearchCV(estimator(), GRID, cv=2, scoring="neg_log_loss") for _ in range(2))
    serial.fit(X, y)
    with joblib.parallel_config("dask"):
        found.fit(X, y)
    assert_allclose(found.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"], atol=1e-5)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_an_ensemble_on_dask(name: str, cluster: Any) -> None:
    X, y = rows()
    serial = ENSEMBLES[name]().fit(X, y)
    before = cluster.run(_n_executed)
    with joblib.parallel_config("dask"):
        found, of_any_size = ENSEMBLES[name](), ENSEMBLES[name]().set_params(max_pack_size=None)
        check_same_ensemble(found.fit(X, y), serial)
        assert any(n > before[worker] for worker, n in cluster.run(_n_executed).items()), "none worked"
        of_any_size.fit(X, y)
    assert_allclose(of_any_size.oof_proba_, serial.oof_proba_, atol=1e-5)
    assert_allclose(of_any_size.predict_proba(X), serial.predict_proba(X), atol=1e-5)


def test_two_threads_of_a_worker_do_not_meet(of_two_threads: Any) -> None:
    """Dropout and drawn orders come from each fit's own generator, though two of them run in one process at once."""
    X, y = rows()
    net = estimator(module__dropout=0.3, weighting="ours", module__hidden=(20,))
    grid = {"weighting__decay": [2.0, 5.0, 10.0], "lr": [0.01, 0.1]}
    searches = [
        (GridSearchCV(net, grid, cv=3, scoring="neg_log_loss")),
        (PackedGridSearchCV(net, grid, cv=3, scoring="neg_log_loss", max_pack_size=2)),
    ]
    for search in searches:
        serial = clone(search).fit(X, y)
        with joblib.parallel_config("dask"):
            check_same(clone(search).fit(X, y), serial)
    ensemble = ENSEMBLES["recipe"]().set_params(n_repeats=2)
    serial = clone(ensemble).fit(X, y)
    with joblib.parallel_config("dask"):
        check_same_ensemble(clone(ensemble).fit(X, y), serial)


# ---------------------------------------------------------------- parts that wait, and workers that die


def _wait_in_worker(folder: str) -> None:
    """Let this worker's trainings say that they have begun, and wait until they are told to go on."""
    from skreweight._training.run import Run

    real = Run.train

    def train(self: Any, n_epochs: int) -> None:
        (Path(folder) / str(os.getpid())).touch()
        until = time.monotonic() + 60
        while not (Path(folder) / "go").exists():
            if time.monotonic() > until:
                raise TimeoutError("Nobody let the training go on.")
            time.sleep(0.01)
        real(self, n_epochs)

    mock.patch.object(Run, "train", train).start()


def at_work(client: Any, folder: Path, fit: Callable[[], Any], n_killed: int = 0) -> Any:
    """Fit, and let trainings go on only when both workers are in the middle of one; by then so many are killed."""
    pids = set(client.run(os.getpid).values())
    assert len(pids) == 2
    client.run(_wait_in_worker, str(folder))
    seen: set[int] = set()
    done = threading.Event()

    def conduct() -> None:
        while not done.is_set() and seen < pids:
            seen.update(int(file.name) for file in folder.iterdir())
            time.sleep(0.01)
        for pid in list(seen)[:n_killed]:
            os.kill(pid, signal.SIGKILL)
        (folder / "go").touch()

    conductor = threading.Thread(target=conduct)
    conductor.start()
    try:
        found = fit()
    finally:
        done.set()
        conductor.join()
        client.wait_for_workers(2, timeout=60)
        client.run(mock.patch.stopall)  # one that was started anew has nothing to stop
    assert seen == pids, "each worker had a part"
    return found


def scorer() -> Callable[..., float]:
    def scored(net: Any, X: Any, y: Any) -> float:  # cannot be imported by name: it travels whole
        return float(net.predict_proba(X)[:, 1] @ y)

    return scored


@pytest.mark.parametrize("of", ["search", "ensemble"])
def test_each_worker_has_a_part_at_once(of: str, cluster: Any, tmp_path: Path) -> None:
    """As many copies of the rows as workers: none waits for Dask to take from another what it has been given."""
    X, y = rows()
    fits = {
        "search": PackedGridSearchCV(estimator(), GRID, cv=2, scoring=scorer()),
        "ensemble": ENSEMBLES["absgd"]().set_params(max_pack_size=None),
    }
    cluster.run_on_scheduler(_stealing, "stop")
    try:
        with joblib.parallel_config("dask"):
            at_work(cluster, tmp_path, lambda: fits[of].fit(X, y))
    finally:
        cluster.run_on_scheduler(_stealing, "start")


async def _stealing(what: str, dask_scheduler: Any) -> None:
    await getattr(dask_scheduler.extensions["stealing"], what)()


@pytest.mark.parametrize("n_killed", [1, 2])
def test_killed_workers_change_nothing(n_killed: int, cluster: Any, tmp_path: Path) -> None:
    """All of them too: the scheduler has what the rows are made of."""
    X, y = rows()
    search = SEARCHES["packed"](estimator(), cv=2, scoring=scorer())
    serial = clone(search).set_params(n_jobs=1).fit(X, y)
    with joblib.parallel_config("dask"):
        check_same(at_work(cluster, tmp_path, lambda: clone(search).fit(X, y), n_killed), serial)


@pytest.mark.parametrize("n_killed", [1, 2])
def test_killed_workers_change_nothing_of_an_ensemble(n_killed: int, cluster: Any, tmp_path: Path) -> None:
    X, y = rows()
    ensemble = ENSEMBLES["recipe"]()
    serial = clone(ensemble).fit(X, y)
    with joblib.parallel_config("dask"):
        found = at_work(cluster, tmp_path, lambda: clone(ensemble).fit(X, y), n_killed)
    check_same_ensemble(found, serial)


def test_a_killed_worker_changes_nothing_of_the_plain_search(cluster: Any, tmp_path: Path) -> None:
    """The recipe of docs/scaling.md: what joblib would leave with one worker is given to all, and stays with them."""
    X, y = rows()
    folds = list(StratifiedKFold(2).split(X, y))
    search = GridSearchCV(estimator(), GRID, cv=folds, scoring=scorer())
    serial = clone(search).set_params(n_jobs=1).fit(X, y)
    cluster.amm.stop()
    try:
        with joblib.parallel_config("dask", scatter=[X, y, *chain.from_iterable(folds)]):
            found = at_work(cluster, tmp_path, lambda: search.fit(X, y), 1)
    finally:
        cluster.amm.start()
    check_same(found, serial)


# ---------------------------------------------------------------- Ray


@pytest.fixture(scope="module")
def two_cpus_of_ray() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'skreweight[ray]'")
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False)
    register_ray()
    try:
        yield
    finally:
        ray.shutdown()


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_on_ray(name: str, two_cpus_of_ray: None, tmp_path: Path) -> None:
    X, y = rows()

    def scored(net: Any, X: Any, y: Any) -> float:
        (tmp_path / str(os.getpid())).touch()
        return float(net.predict_proba(X)[:, 1] @ y)

    search = SEARCHES[name](estimator(), cv=2, scoring=scored)
    serial = clone(search).set_params(n_jobs=1).fit(X, y)
    (tmp_path / str(os.getpid())).unlink()
    with joblib.parallel_config("ray", n_jobs=-1):
        check_same(search.fit(X, y), serial)
    assert {file.name for file in tmp_path.iterdir()} - {str(os.getpid())}, "scored in other processes"


@pytest.mark.parametrize("name", ENSEMBLES)
def test_an_ensemble_on_ray(name: str, two_cpus_of_ray: None) -> None:
    X, y = rows()
    serial = ENSEMBLES[name]().fit(X, y)
    with joblib.parallel_config("ray", n_jobs=-1):
        check_same_ensemble(ENSEMBLES[name]().fit(X, y), serial)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_killed_worker_of_ray_changes_nothing(name: str, two_cpus_of_ray: None, tmp_path: Path) -> None:
    """With the arguments of docs/scaling.md, by which Ray's pool starts a process anew and runs its work again."""
    X, y = rows()

    def scored(net: Any, X: Any, y: Any) -> float:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0.3)
        return float(net.predict_proba(X)[:, 1] @ y)

    search = SEARCHES[name](estimator(), cv=2, scoring=scored)
    serial = clone(search).set_params(n_jobs=1).fit(X, y)
    (tmp_path / str(os.getpid())).unlink()
    killed: list[int] = []

    done = threading.Event()

    def kill() -> None:
        while not killed and not done.is_set():
            for file in tmp_path.iterdir():
                os.kill(int(file.name), signal.SIGKILL)
                killed.append(int(file.name))
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    anew = {"max_restarts": -1, "max_task_retries": -1}
    with joblib.parallel_config("ray", n_jobs=-1, ray_remote_args=anew):
        check_same(search.fit(X, y), serial)
    killer.join()
    assert killed and killed[0] != os.getpid()

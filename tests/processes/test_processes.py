"""Training over processes: the same as in one, and one clear end where something goes wrong."""

import pickle
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skreweight import ReweightedClassifier
from skreweight._training.processes import n_started
from skreweight.core.exchange import LOCAL
from tests.processes.starting import ended, started

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import cases  # noqa: E402

FAST = ["ours weighted", "absgd", "top-loss general", "one row left"]
SLOW = [name for name in cases.CASES if name not in FAST]


def over_processes(n: int, names: list[str], folder: Path) -> list[dict[str, Any]]:
    for code, _, err in ended(started(n, "worker.py", str(folder), *names)):
        assert code == 0, err[-3000:]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(n)]


def compare(name: str, found: dict[str, Any], alone: dict[str, Any]) -> None:
    bound = 1e-6 if "float32" in name else 1e-12
    for what in ("parameters", "probabilities"):
        assert_allclose(found[what], alone[what], rtol=bound, atol=bound, err_msg=f"{name}: {what}")
    # Weights are compared as shares of a batch of 32, which is what the step uses.
    assert_allclose(found["weights"] / 32, alone["weights"] / 32, rtol=bound, atol=bound, err_msg=name)
    for key, value in alone["state"].items():
        assert_allclose(found["state"][key], value, rtol=bound, atol=bound, err_msg=f"{name}: {key}")
    assert len(found["history"]) == len(alone["history"])
    for ours, theirs in zip(found["history"], alone["history"], strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_allclose(ours[key], theirs[key], rtol=bound, atol=bound, err_msg=f"{name}: {key}")
    assert_array_equal(found["generator"], alone["generator"])  # they go on from the same numbers


def check(n: int, names: list[str], folder: Path) -> None:
    found = over_processes(n, names, folder)
    for name in names:
        alone = cases.run(name)
        for of_rank in found:
            compare(name, of_rank[name], alone)
            assert_array_equal(of_rank[name]["parameters"], found[0][name]["parameters"])  # bit for bit


@pytest.mark.filterwarnings("ignore")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    check(2, FAST, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [2, 3])
def test_processes_equal_one_in_every_case(n: int, tmp_path: Path) -> None:
    check(n, SLOW if n == 2 else list(cases.CASES), tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_the_comparison_can_fail() -> None:
    """Nearly the same fit is not the same: a learning rate that differs in the ninth digit is seen."""
    alone = cases.run("absgd")
    cases.CASES["slightly other"] = {**cases.CASES["absgd"], "lr": 0.1 * (1 + 1e-9)}
    with pytest.raises(AssertionError):
        compare("absgd", cases.run("slightly other"), alone)


# ---------------------------------------------------------------- what goes wrong


def ends_of(what: str, folder: Path, n: int = 2) -> list[tuple[int, str, str]]:
    return ended(started(n, "faults.py", str(folder), what))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["die", "fail", "hang"])
def test_a_lost_process_ends_all_with_one_error_and_the_checkpoint_is_kept(what: str, tmp_path: Path) -> None:
    begin = time.monotonic()
    ends = ends_of(what, tmp_path, n=3 if what == "die" else 2)
    for rank in (0, 2) if what == "die" else (0,):
        code, _, err = ends[rank]
        assert code != 0
        last = err.strip().splitlines()[-1]
        assert "ProcessLostError: Training over processes ended: another process is gone" in last
    if what == "fail":
        assert "ValueError: an error of the callback's own" in ends[1][2]
    saved = tmp_path / "saved0" / "params.pt"
    assert torch.load(saved, weights_only=True)
    assert time.monotonic() - begin < 120


@pytest.mark.slow
@pytest.mark.parametrize("what", ["interrupt", "give up"])
def test_ctrl_c_in_one_process_stops_all_at_the_same_step(what: str, tmp_path: Path) -> None:
    ends = ends_of(what, tmp_path)
    assert [code for code, _, _ in ends] == [0, 0], ends[0][2]
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    assert int(first["n_epochs"]) == int(second["n_epochs"]) == 2
    for name in ("parameters", "weights"):
        assert_array_equal(first[name], second[name])


@pytest.mark.slow
def test_the_first_process_alone_prints_and_writes(tmp_path: Path) -> None:
    ends = ends_of("dropout", tmp_path)
    assert [code for code, _, _ in ends] == [0, 0], ends[0][2]
    assert "train_loss" in ends[0][1]
    assert ends[1][1] == ""
    assert any((tmp_path / "saved0").iterdir())
    assert not any((tmp_path / "saved1").iterdir())  # skorch makes the folder itself
    assert_array_equal(np.load(tmp_path / "0.npz")["parameters"], np.load(tmp_path / "1.npz")["parameters"])


REFUSED = {
    "batch norm": "whose statistics would be those of one process's rows: use LayerNorm or GroupNorm",
    "neighbours": "weighting__virtual_batch_size takes virtual steps with neighbours",
    "own products": "does not say that it is right on a share of the batch: set works_on_shares = True",
    "own stored": "stores weights of rows and does not say that it is right on a share of the batch",
    "other rows": "The 2 processes differ in their rows, labels or sample weights: give each the same X and y, whole",
    "grid": "A fit over processes cannot be part of one of sklearn's searches",
    "packed": "A fit over processes cannot be part of PackedGridSearchCV",
    "ensemble": "A fit over processes cannot be part of ReweightedEnsembleClassifier",
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_every_process(what: str, tmp_path: Path) -> None:
    for code, _, err in ends_of(what, tmp_path):
        assert code != 0
        assert REFUSED[what] in err.strip().splitlines()[-1], err[-2000:]


# ---------------------------------------------------------------- one process


def test_a_plain_python_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = cases.rows("float32")
    assert n_started() == 1
    fits = [
        ReweightedClassifier(warmup_epochs=1, max_epochs=1, random_state=0, distributed=d).fit(X, y)
        for d in ("auto", False)
    ]
    assert_array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))
    assert not torch.distributed.is_initialized()
    with pytest.raises(ValueError, match="distributed=True needs processes: start the script with torchrun"):
        ReweightedClassifier(distributed=True).fit(X, y)
    # Several processes were started, and this fit is none of theirs.
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert n_started() == 2
    alone = ReweightedClassifier(warmup_epochs=1, max_epochs=1, random_state=0, distributed=False).fit(X, y)
    assert_array_equal(alone.predict_proba(X), fits[0].predict_proba(X))


@pytest.mark.parametrize("wrong", ["yes", None, 2])
def test_distributed_is_checked(wrong: Any) -> None:
    X, y, _ = cases.rows("float32")
    with pytest.raises(ValueError, match="distributed"):
        ReweightedClassifier(distributed=wrong).fit(X, y)


def test_one_process_hands_back_what_it_is_given() -> None:
    """Nothing is computed where there is nobody to exchange with."""
    values = torch.rand(3)
    for same in (
        LOCAL.sum(values),
        LOCAL.max(values),
        LOCAL.log_sum_exp(values),
        LOCAL.loss(values),
        LOCAL.own(values),
    ):
        assert same is values
    assert LOCAL.gathered(values)[0] is values
    assert LOCAL.gradients([values])[0] is values
    assert not LOCAL.is_shared


# ---------------------------------------------------------------- rows beyond memory


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_mapped_rows_are_copied_by_no_process(tmp_path: Path) -> None:
    """4e6 x 50 float32, 800 MB: each of two processes takes no more than 1.3 times what one takes alone."""
    n_rows, n_columns = 4_000_000, 50
    X = np.lib.format.open_memmap(tmp_path / "X.npy", mode="w+", dtype=np.float32, shape=(n_rows, n_columns))
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, 200_000):
        X[start : start + 200_000] = rng.standard_normal((200_000, n_columns), dtype=np.float32)
    np.save(tmp_path / "y.npy", (X[:, 0] > 1.5).astype(np.int64))
    X.flush()
    del X
    for n in (1, 2):
        for code, _, err in ended(started(n, "memory.py", str(tmp_path))):
            assert code == 0, err[-3000:]
    alone = np.load(tmp_path / "1_0.npz")
    for rank in range(2):
        of_rank = np.load(tmp_path / f"2_{rank}.npz")
        for name in ("own", "peak"):  # memory of its own, and with the pages of the file
            assert of_rank[name] <= 1.3 * alone[name], (name, of_rank[name], alone[name])
        assert of_rank["own"] < 0.8 * 4 * n_rows * n_columns

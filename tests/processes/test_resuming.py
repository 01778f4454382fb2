"""A training over processes that was killed goes on from its checkpoint, to the bit with as many processes."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.processes.starting import ended, started

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
#: Who is killed in the fourth of six epochs: one process, or all at once as by a power cut.
KILLED = {"hu": "1", "meta-weight-net": "0", "dropout": "all"}


def fitted(n: int, folder: Path, *names: str) -> list[dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    for code, _, err in ended(started(n, "resumes.py", str(folder), *names)):
        assert code == 0, err[-3000:]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(n)]


def compare(found: dict[str, Any], expected: dict[str, Any], equal: Callable[..., None]) -> None:
    assert found.keys() == expected.keys()
    for name, of_fit in expected.items():
        for what in ("parameters", "weights", "losses"):
            equal(found[name][what], of_fit[what], err_msg=f"{name}: {what}")
        for key, value in of_fit["state"].items():
            equal(found[name]["state"][key], value, err_msg=f"{name}: {key}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return fitted(2, tmp_path_factory.mktemp("whole"), *KILLED)[0]


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of fits by two processes that were killed."""
    folder = tmp_path_factory.mktemp("killed")
    for name, who in KILLED.items():
        ends = ended(started(2, "resumes.py", str(folder), name, KILLED=who))
        assert all(code != 0 for code, _, _ in ends)
        for rank, (_, _, err) in enumerate(ends):
            if who not in (str(rank), "all"):
                assert "ProcessLostError" in err.strip().splitlines()[-1]
        assert (folder / f"{name}.pt").exists()
        assert not (folder / "0.pickle").exists()
    return folder


def test_two_processes_go_on_to_the_bit(cut_off: Path, uninterrupted: Any, tmp_path: Path) -> None:
    shutil.copytree(cut_off, tmp_path / "again")
    for of_rank in fitted(2, tmp_path / "again", *KILLED):
        compare(of_rank, uninterrupted, assert_array_equal)


@pytest.mark.parametrize("n", [1, 3])
def test_another_number_goes_on_but_for_rounding(
    n: int, cut_off: Path, uninterrupted: Any, tmp_path: Path
) -> None:
    """All but dropout, whose masks are each process's own."""
    shutil.copytree(cut_off, tmp_path / "again")
    names = [name for name in KILLED if name != "dropout"]
    for of_rank in fitted(n, tmp_path / "again", *names):
        compare(
            of_rank,
            {name: uninterrupted[name] for name in names},
            lambda a, b, err_msg: assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=err_msg),
        )


def test_the_file_of_another_fit_is_refused_in_every_process(cut_off: Path, tmp_path: Path) -> None:
    shutil.copytree(cut_off, tmp_path / "again")
    for code, _, err in ended(started(2, "resumes.py", str(tmp_path / "again"), "hu", OTHER_ROWS="1")):
        assert code != 0
        assert "is of another fit, which differs in X" in err.strip().splitlines()[-1]

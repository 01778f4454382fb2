import sys
from pathlib import Path

import imblearn.datasets
import numpy as np
import pytest

from skreweight.datasets import fetch_benchmark


def write_set(home, number, n_rows=4):
    """Write a set in imbalanced-learn's form; 1 is ecoli, 18 is oil, 25 is mammography."""
    (home / "zenodo").mkdir(parents=True, exist_ok=True)
    target = np.where(np.arange(n_rows) == 0, 1, -1)
    np.savez(home / "zenodo" / f"x{number}data.npz", data=np.full((n_rows, 2), float(number)), label=target)


@pytest.fixture
def download(monkeypatch):
    """Let a download write every set where it is asked to; return the folders."""
    folders = []
    fetch = imblearn.datasets.fetch_datasets

    def fetch_datasets(*, data_home, filter_data=None, download_if_missing=True):
        if download_if_missing:
            folders.append(data_home)
            for number in range(1, 28):
                write_set(Path(data_home), number)
        return fetch(data_home=data_home, filter_data=filter_data, download_if_missing=False)

    monkeypatch.setattr(imblearn.datasets, "fetch_datasets", fetch_datasets)
    return folders


@pytest.mark.parametrize("names", [["oil", "ecoli"], (18, 1), [18, "ecoli"]])
def test_sets_by_name_or_number_in_the_order_asked(tmp_path, names):
    for number in (1, 18, 25):
        write_set(tmp_path, number)
    sets = fetch_benchmark(names, tmp_path, download_if_missing=False)
    assert list(sets) == ["oil", "ecoli"]
    assert sets["oil"].data.tolist() == [[18.0, 18.0]] * 4
    assert sets["oil"].target.tolist() == [1, -1, -1, -1]


def test_one_name(tmp_path):
    write_set(tmp_path, 18)
    assert list(fetch_benchmark("oil", tmp_path)) == ["oil"]


def test_available(tmp_path):
    for number in (25, 1):
        write_set(tmp_path, number)
    assert list(fetch_benchmark("available", tmp_path)) == ["ecoli", "mammography"]


def test_all(tmp_path):
    for number in range(1, 28):
        write_set(tmp_path, number)
    assert len(fetch_benchmark(data_home=tmp_path)) == 27


def test_environment_variable_then_cache(tmp_path, monkeypatch):
    cache, shared = tmp_path / "cache", tmp_path / "shared"
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(cache))
    monkeypatch.setenv("SKREWEIGHT_DATA", str(shared))
    write_set(cache, 1)
    write_set(cache, 25)
    assert list(fetch_benchmark("available")) == ["ecoli", "mammography"]
    write_set(shared, 1, n_rows=9)
    assert [len(s.data) for s in fetch_benchmark("available").values()] == [9]
    assert [len(s.data) for s in fetch_benchmark(["ecoli"]).values()] == [9]
    assert [len(s.data) for s in fetch_benchmark(["ecoli", "mammography"]).values()] == [4, 4]


def test_missing_set_without_download(tmp_path):
    write_set(tmp_path, 1)
    with pytest.raises(OSError, match=r"Did not find .*oil.* zenodo") as caught:
        fetch_benchmark(["ecoli", "oil"], tmp_path, download_if_missing=False)
    assert str(tmp_path) in str(caught.value)


def test_nothing_available_is_not_downloaded(tmp_path, download):
    with pytest.raises(OSError, match="Did not find any set"):
        fetch_benchmark("available", tmp_path)
    assert download == []


def test_download_goes_to_the_cache_and_not_to_the_shared_folder(tmp_path, monkeypatch, download):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("SKREWEIGHT_DATA", str(tmp_path / "shared"))
    assert list(fetch_benchmark(["oil"])) == ["oil"]
    assert download == [str(tmp_path / "cache")]


def test_failed_download_names_the_fix(tmp_path, monkeypatch):
    fetch = imblearn.datasets.fetch_datasets

    def no_network(*, download_if_missing=True, **kwargs):
        if download_if_missing:
            raise OSError("no route")
        return fetch(download_if_missing=False, **kwargs)

    monkeypatch.setattr(imblearn.datasets, "fetch_datasets", no_network)
    with pytest.raises(OSError, match=r"all 27 sets.*the download failed \(no route\): .*SKREWEIGHT_DATA"):
        fetch_benchmark(data_home=tmp_path)


def test_unknown_set(tmp_path):
    with pytest.raises(ValueError, match="iris"):
        fetch_benchmark(["iris"], tmp_path)


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'skreweight\[examples\]'"):
        fetch_benchmark(["oil"], tmp_path)


def test_real_files(real_data):
    sets = fetch_benchmark("available", real_data("zenodo"))
    assert sets
    for bunch in sets.values():
        assert set(bunch.target) == {-1, 1}
        assert (bunch.target == 1).mean() < 0.11
        assert np.isfinite(bunch.data).all()

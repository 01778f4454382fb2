import gzip
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

from skreweight.datasets import _aps, fetch_aps_failure

TRAIN, TEST = _aps.FILES["train"], _aps.FILES["test"]
PREAMBLE = (
    "This file is part of APS Failure and Operational Data for Scania Trucks.\n\n"
    "Copyright (c) <2016> <Scania CV AB>\n"
    + "This program, (free software), comes without warranty,\n" * 15
    # Not UTF-8, as in the authors' address, and the ruler that ends the text.
    + "S\udcf6dert\udce4lje\n\n------------------------------------------------------------------------\n"
)
HEADER = "class,aa_000,ab_000,ac_00\n"
ROWS = "neg,1,na,2.5\nneg,0,16777217,na\npos,-3,4,1e3\n"
CSV = HEADER + ROWS
DATA = np.array([[1, np.nan, 2.5], [0, 16777216, np.nan], [-3, 4, 1000]], dtype=np.float32)
TARGET = ["neg", "neg", "pos"]


def write(path: Path, text: str, form: str = "") -> Path:
    path = path.with_name(path.name + form)
    path.parent.mkdir(exist_ok=True)
    content = text.encode("utf-8", errors="surrogateescape")
    if form == ".gz":
        content = gzip.compress(content)
    if form == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("licence.txt", "GPL")
            archive.writestr(path.name.removesuffix(".zip"), content)
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("folder", ["", "aps_failure"])
@pytest.mark.parametrize("form", ["", ".gz", ".zip"])
@pytest.mark.parametrize("preamble", ["", PREAMBLE], ids=["bare", "licence"])
def test_every_published_form_gives_the_same(tmp_path, folder, form, preamble):
    path = write(tmp_path / folder / TRAIN, preamble + CSV, form)
    aps = fetch_aps_failure(tmp_path, download_if_missing=False)
    np.testing.assert_array_equal(aps.data.to_numpy(), DATA)
    assert set(aps.data.dtypes) == {np.dtype(np.float32)}
    assert aps.target.tolist() == TARGET
    assert aps.source == [str(path)]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + CSV,
        CSV.replace("\n", "\r\n"),
        CSV.replace("class,aa_000", '"class","aa_000"'),
        CSV.replace("\n", "\n\n"),
        CSV.rstrip("\n"),
    ],
    ids=["byte-order mark", "carriage returns", "quotes", "blank lines", "no last line end"],
)
def test_harmless_variations(tmp_path, text):
    write(tmp_path / TRAIN, text)
    X, y = fetch_aps_failure(tmp_path, return_X_y=True, as_frame=False)
    np.testing.assert_array_equal(X, DATA)
    assert y.tolist() == TARGET


def test_unpacked_by_the_browser_but_still_named_gz(tmp_path):
    (tmp_path / f"{TRAIN}.gz").write_text(CSV)
    assert len(fetch_aps_failure(tmp_path).data) == 3


def test_plain_file_wins_over_packed_ones(tmp_path):
    write(tmp_path / TRAIN, CSV, ".zip")
    write(tmp_path / TRAIN, CSV, ".gz")
    plain = write(tmp_path / TRAIN, CSV)
    assert fetch_aps_failure(tmp_path).source == [str(plain)]


def test_bunch_as_scikit_learn_has_it(tmp_path):
    write(tmp_path / TRAIN, CSV)
    aps = fetch_aps_failure(tmp_path)
    assert isinstance(aps, Bunch)
    assert aps.feature_names == ["aa_000", "ab_000", "ac_00"] == list(aps.data.columns)
    assert aps.target_names == ["neg", "pos"]
    assert aps.target.name == "class"
    pd.testing.assert_frame_equal(aps.frame, aps.data.assign(**{"class": aps.target}))
    assert "10.24432/C51S51" in aps.DESCR


def test_arrays(tmp_path):
    write(tmp_path / TRAIN, CSV)
    aps = fetch_aps_failure(tmp_path, as_frame=False)
    assert aps.frame is None
    assert isinstance(aps.data, np.ndarray) and aps.data.dtype == np.float32 and aps.data.flags.writeable
    assert isinstance(aps.target, np.ndarray) and aps.target.dtype.kind == "U"


def test_return_X_y(tmp_path):
    write(tmp_path / TRAIN, CSV)
    X, y = fetch_aps_failure(tmp_path, return_X_y=True)
    assert isinstance(X, pd.DataFrame) and isinstance(y, pd.Series)


def test_subsets(tmp_path):
    write(tmp_path / TRAIN, CSV)
    write(tmp_path / TEST, HEADER + "pos,7,8,9\n", ".gz")
    assert len(fetch_aps_failure(tmp_path, "train").data) == 3
    assert fetch_aps_failure(tmp_path, "test").data.to_numpy().tolist() == [[7, 8, 9]]
    both = fetch_aps_failure(tmp_path, "all")
    np.testing.assert_array_equal(both.data.to_numpy(), np.vstack([DATA, [7, 8, 9]]))
    assert both.data.index.tolist() == [0, 1, 2, 3]
    assert len(both.source) == 2


def test_unknown_subset(tmp_path):
    with pytest.raises(ValueError, match="subset must be one of 'train', 'test', 'all', got 'valid'"):
        fetch_aps_failure(tmp_path, "valid")


@pytest.mark.parametrize("form", ["", ".gz", ".zip"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no header line"),
        (ROWS, "no header line"),
        ("sepal,petal,class\n1,2,setosa\n", "no header line"),
        ("class,sepal,petal\nneg,2,3\n", "header of 3 columns that begins class,sepal,petal"),
        ("class,aa_000,aa_000\nneg,2,3\n", "header of 3 columns"),
        ("class\nneg\n", "header of 1 columns"),
        (HEADER, "no rows below the header"),
        (HEADER + "neg,1,2,3\nneg,1,2\n", ""),
        (HEADER + "neg,1,2,3\nneg,1,\n", ""),
        (HEADER + "neg,1,2,3\nne", ""),
        (HEADER + "neg,1,2,3\nneg,1,2,3,4\n", "Expected 4 fields"),
        (HEADER + "neg,1,2,3,4\npos,1,2,3,4\n", "class label '1'"),
        (HEADER + "neg,1,2,3\nneg,1,two,3\n", "two"),
        (HEADER + "neg,1,2,3\nmaybe,1,2,3\n", "class label 'maybe'"),
        (HEADER + "neg,1,2,3\nna,1,2,3\n", "class label 'na'"),
        ("\udcff\udcfe\x00\x01" * 30_000, "no header line"),
    ],
)
def test_damaged_or_foreign_content_is_one_clear_error(tmp_path, form, text, reason):
    path = write(tmp_path / TRAIN, text, form)
    with pytest.raises(ValueError, match="damaged or foreign") as caught:
        fetch_aps_failure(tmp_path)
    message = str(caught.value)
    assert str(path) in message and reason in message
    assert "expected a CSV file with a header line of 'class' and attributes" in message


@pytest.mark.parametrize("form", [".gz", ".zip"])
@pytest.mark.parametrize("keep", [0.5, 0.97])
def test_packed_file_cut_short(tmp_path, form, keep):
    rng = np.random.default_rng(0)
    rows = "".join(f"neg,{a},{b},{c}\n" for a, b, c in rng.integers(0, 10**6, (5000, 3)))
    path = write(tmp_path / TRAIN, HEADER + rows, form)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match="damaged or foreign"):
        fetch_aps_failure(tmp_path)


def test_flipped_bytes_in_a_packed_file(tmp_path):
    path = write(tmp_path / TRAIN, CSV * 1, ".gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF  # its checksum
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or foreign"):
        fetch_aps_failure(tmp_path)


def test_archive_without_the_file(tmp_path):
    with zipfile.ZipFile(tmp_path / f"{TRAIN}.zip", "w") as archive:
        archive.writestr("other.csv", CSV)
    with pytest.raises(ValueError, match=f"the archive has no {TRAIN}"):
        fetch_aps_failure(tmp_path)


def test_header_far_down_is_not_searched_for_ever(tmp_path):
    write(tmp_path / TRAIN, "text\n" * _aps.LAST_HEADER_LINE + CSV)
    with pytest.raises(ValueError, match="no header line"):
        fetch_aps_failure(tmp_path)


def test_files_of_two_kinds_are_not_joined(tmp_path):
    write(tmp_path / TRAIN, CSV)
    write(tmp_path / TEST, "class,aa_000\npos,7\n")
    with pytest.raises(ValueError, match="other attributes"):
        fetch_aps_failure(tmp_path, "all")


def test_stream_is_read_once_from_front_to_back(tmp_path, monkeypatch):
    path = write(tmp_path / TRAIN, PREAMBLE + CSV)
    handed = []
    read_csv = pd.read_csv

    def spy(stream, **kwargs):
        handed.append(stream)
        return read_csv(stream, **kwargs)

    monkeypatch.setattr(pd, "read_csv", spy)
    _aps._read_csv(path)
    assert len(handed) == 1 and not isinstance(handed[0], str | Path)


# Where files are looked for.


def test_missing_file_without_download_says_where_it_looked(tmp_path):
    write(tmp_path / TRAIN, CSV)
    with pytest.raises(OSError, match="download_if_missing is False") as caught:
        fetch_aps_failure(tmp_path, "all", download_if_missing=False)
    assert str(tmp_path) in str(caught.value)
    assert TEST in str(caught.value) and TRAIN not in str(caught.value)


def test_environment_variable_then_cache(tmp_path, monkeypatch):
    cache, shared = tmp_path / "cache", tmp_path / "shared"
    for folder in (cache, shared):
        folder.mkdir()
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(cache))
    write(cache / TRAIN, CSV)
    write(cache / TEST, CSV)
    write(shared / TRAIN, HEADER + "pos,7,8,9\n")
    assert len(fetch_aps_failure().data) == 3
    monkeypatch.setenv("SKREWEIGHT_DATA", str(shared))
    assert len(fetch_aps_failure().data) == 1
    assert len(fetch_aps_failure(subset="test").data) == 3  # not in the shared folder
    assert len(fetch_aps_failure(str(cache)).data) == 3


def test_given_folder_is_the_only_one(tmp_path, monkeypatch):
    write(tmp_path / TRAIN, CSV)
    monkeypatch.setenv("SKREWEIGHT_DATA", str(tmp_path))
    with pytest.raises(OSError, match="elsewhere"):
        fetch_aps_failure(tmp_path / "elsewhere", download_if_missing=False)


# OpenML's copy.


def openml_frame(n_train=(60, 10), n_test=(16, 5)):
    """Rows as fetch_openml returns them: float64 attributes, a categorical class at the end."""
    labels = [label for n, pos in (n_train, n_test) for label in ["pos"] * pos + ["neg"] * (n - pos)]
    frame = pd.DataFrame({"aa_000": np.arange(len(labels), dtype=float), "ab_000": np.nan})
    return frame.assign(**{"class": pd.Categorical(labels)})


@pytest.fixture
def openml(monkeypatch):
    """A stand-in of OpenML with 60 + 16 rows; returns the calls that it got."""
    calls = []

    def fetch(**kwargs):
        calls.append(kwargs)
        return Bunch(frame=openml_frame())

    monkeypatch.setattr(_aps, "fetch_openml", fetch)
    monkeypatch.setattr(_aps, "OPENML_PARTS", {"train": (60, 10), "test": (16, 5)})
    return calls


@pytest.mark.parametrize(
    ("subset", "first", "n_rows", "n_pos"), [("train", 0, 60, 10), ("test", 60, 16, 5), ("all", 0, 76, 15)]
)
def test_openml_copy_is_cut_into_the_files(openml, subset, first, n_rows, n_pos):
    aps = fetch_aps_failure(subset=subset)
    assert aps.data.shape == (n_rows, 2)
    assert aps.data["aa_000"].tolist() == list(range(first, first + n_rows))
    assert aps.data.index.tolist() == list(range(n_rows))
    assert set(aps.data.dtypes) == {np.dtype(np.float32)}
    assert aps.target.tolist().count("pos") == n_pos
    assert aps.data["ab_000"].isna().all()
    assert aps.source == [_aps.OPENML_URL]
    assert openml[0]["data_id"] == 41138 and openml[0]["data_home"] is None


def test_download_goes_to_the_given_folder(openml, tmp_path):
    fetch_aps_failure(tmp_path)
    assert openml[0]["data_home"] == str(tmp_path)


def test_openml_is_not_asked_where_files_are_or_when_forbidden(openml, tmp_path):
    with pytest.raises(OSError, match="download_if_missing"):
        fetch_aps_failure(tmp_path, download_if_missing=False)
    write(tmp_path / TRAIN, CSV)
    fetch_aps_failure(tmp_path)
    assert openml == []


def test_openml_in_another_order_is_not_cut(openml, monkeypatch):
    other = openml_frame(n_train=(16, 5), n_test=(60, 10))
    monkeypatch.setattr(_aps, "fetch_openml", lambda **kwargs: Bunch(frame=other))
    with pytest.raises(OSError, match="use subset='all'"):
        fetch_aps_failure()
    assert len(fetch_aps_failure(subset="all").data) == 76


@pytest.mark.parametrize("error", [URLError("no route"), TimeoutError("slow"), ValueError("checksum")])
def test_failed_download_names_the_fix(monkeypatch, tmp_path, error):
    def fail(**kwargs):
        raise error

    monkeypatch.setattr(_aps, "fetch_openml", fail)
    with pytest.raises(OSError, match="SKREWEIGHT_DATA") as caught:
        fetch_aps_failure(tmp_path)
    assert _aps.UCI_URL in str(caught.value) and TRAIN in str(caught.value)


# The real thing.


@pytest.mark.parametrize("subset", ["train", "test"])
def test_real_files(real_data, subset):
    home = real_data("aps_failure")
    aps = fetch_aps_failure(home, subset, download_if_missing=False)
    assert aps.data.shape[1] == 170
    assert aps.target.isin(["neg", "pos"]).all()
    with (gzip.open if aps.source[0].endswith(".gz") else open)(
        aps.source[0], "rt", errors="replace"
    ) as file:
        above = next(i for i, line in enumerate(file) if line.startswith("class,"))
    reference = pd.read_csv(aps.source[0], na_values="na", skiprows=above)
    np.testing.assert_array_equal(aps.data.to_numpy(), reference.iloc[:, 1:].to_numpy(np.float32))
    assert aps.target.tolist() == reference["class"].tolist()
    assert 0.01 < (aps.target == "pos").mean() < 0.03
    assert 0.05 < aps.data.isna().mean(axis=None) < 0.12

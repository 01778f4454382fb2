"""APS Failure at Scania Trucks."""

from __future__ import annotations

import gzip
import io
import os
import re
import zipfile
import zlib
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path, PurePath
from typing import Any, TextIO

import numpy as np
import pandas as pd
from sklearn.datasets import fetch_openml
from sklearn.utils import Bunch

from ._bunch import pack
from ._checks import check_choice
from ._home import HOW_TO_POINT, DataHome, find_file, where

FILES = {"train": "aps_failure_training_set.csv", "test": "aps_failure_test_set.csv"}
TARGET = "class"
LABELS = ("neg", "pos")

UCI_URL = "https://doi.org/10.24432/C51S51"
OPENML_ID = 41138
OPENML_URL = f"https://www.openml.org/d/{OPENML_ID}"
# OpenML's copy holds the training file's rows, then the test file's: (rows, of which pos) of each.
OPENML_PARTS = {"train": (60_000, 1_000), "test": (16_000, 375)}

EXPECTED = (
    "a CSV file with a header line of 'class' and attributes like 'aa_000', then one row per truck: "
    "neg or pos, and a number or na for each attribute"
)
# The published preamble has about 20 lines; a header that has not come by here belongs to no such file.
LAST_HEADER_LINE = 100
ATTRIBUTE = re.compile(r"[a-z]{2}_\d{1,3}")

DESCR = f"""\
APS Failure at Scania Trucks
============================

Operational data of heavy trucks whose failure did ("pos") or did not ("neg") concern the air pressure
system. 60,000 training rows (1,000 pos) and 16,000 test rows (375 pos) of 170 anonymised attributes, single
counters and bins of histograms; missing values are NaN. A partial copy of the files has fewer rows.

Published by Scania CV AB for the IDA 2016 Industrial Challenge, UCI Machine Learning Repository,
{UCI_URL}, under the GNU General Public License 3. The challenge counts a needless check
(false positive) as 10 and a missed failure (false negative) as 500.
"""


def fetch_aps_failure(
    data_home: DataHome = None,
    subset: str = "train",
    as_frame: bool = True,
    return_X_y: bool = False,
    download_if_missing: bool = True,
) -> Bunch | tuple[Any, Any]:
    """Load the APS Failure at Scania Trucks data.

    =================   =====================================
    Classes             2, ``"neg"`` and ``"pos"``
    Rows                60,000 (1,000 pos) to train on,
                        16,000 (375 pos) to test on
    Attributes          170, numbers, with missing values
    =================   =====================================

    The published files `aps_failure_training_set.csv` and `aps_failure_test_set.csv` are read as they lie:
    with or without the licence text above the header, plain or with `.gz` or `.zip` added to the name,
    whole or cut to some of their rows or attributes. They are looked for in the folder itself, then in its
    subfolder `aps_failure`; where the same file lies there in several forms, the plain one is read, then the
    gzipped, then the zipped. A row with too few or too many fields is an error; a file that was cut between
    two rows, or inside its last number, cannot be told from a partial file.

    Without files, OpenML's copy (data set 41138) is downloaded through
    :func:`sklearn.datasets.fetch_openml` and kept in its cache. That copy is one table of 76,000 rows; its
    first 60,000 are taken as the training file and the other 16,000 as the test file, which is checked by
    the number of rows and of failures in each part.

    Parameters
    ----------
    data_home : str or path-like, default=None
        The only folder to look in, and the place of the download cache. None: the folder named by the
        environment variable SKREWEIGHT_DATA, then scikit-learn's cache
        (:func:`sklearn.datasets.get_data_home`), where downloads go too.
    subset : {"train", "test", "all"}, default="train"
        Which file; "all" is the training rows followed by the test rows.
    as_frame : bool, default=True
        Return pandas objects, otherwise NumPy arrays.
    return_X_y : bool, default=False
        Return `(data, target)` instead of the Bunch.
    download_if_missing : bool, default=True
        False: never ask OpenML, not even for a copy that is in its cache already; a missing file is an
        OSError.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        data : DataFrame or ndarray of shape (n_rows, n_attributes), float32
            Missing values are NaN, nothing is imputed. float32 halves the memory; the published integers
            above 2**24 are rounded by it, by less than one part in 10 million.
        target : Series or ndarray of shape (n_rows,)
            The strings "neg" and "pos".
        frame : DataFrame of shape (n_rows, n_attributes + 1) or None
            `data` and `target` in one, where `as_frame` is True.
        feature_names : list of str
            The columns of `data`.
        target_names : list of str
            ``["neg", "pos"]``
        source : list of str
            The files that were read, or the address at OpenML.
        DESCR : str
            What the data are.
    (data, target) : tuple
        If `return_X_y` is True.

    Raises
    ------
    OSError
        If a file is missing and `download_if_missing` is False, if the download failed, or if what came
        cannot be cut into the two files.
    ValueError
        If a file is damaged or is something else.

    Examples
    --------
    >>> from skreweight.datasets import fetch_aps_failure
    >>> X, y = fetch_aps_failure(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (16000, 170)
    """
    check_choice("subset", subset, ("train", "test", "all"))
    parts = tuple(FILES) if subset == "all" else (subset,)
    paths = {part: find_file(_places(FILES[part]), data_home) for part in parts}
    missing = [FILES[part] for part, path in paths.items() if path is None]

    if not missing:
        frame, source = _read_files([path for path in paths.values() if path is not None])
    elif download_if_missing:
        frame, source = _read_openml(parts, missing, data_home), [OPENML_URL]
    else:
        raise OSError(
            f"{' and '.join(missing)} (or .csv.gz, .csv.zip) not found in {where(data_home)}, nor in the "
            f"subfolder aps_failure, and download_if_missing is False: {HOW_TO_POINT}, or allow the download."
        )

    features = [name for name in frame.columns if name != TARGET]
    return pack(
        frame[features],
        frame[TARGET],
        feature_names=features,
        target_name=TARGET,
        as_frame=as_frame,
        return_X_y=return_X_y,
        target_names=list(LABELS),
        source=source,
        DESCR=DESCR,
    )


def _places(file: str) -> list[str]:
    """Return the relative paths under which a published file may lie."""
    return [folder + file + suffix for folder in ("", "aps_failure/") for suffix in ("", ".gz", ".zip")]


def _read_files(paths: list[Path]) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the files one after the other, and where they came from."""
    frames = [_read_csv(path) for path in paths]
    for path, frame in zip(paths, frames, strict=True):
        if list(frame.columns) != list(frames[0].columns):
            raise ValueError(f"{path} has other attributes than {paths[0]}: take both files from one source.")
    return pd.concat(frames, ignore_index=True), [str(path) for path in paths]


def _read_csv(path: Path) -> pd.DataFrame:
    """Return one published file as a frame, target column included."""
    try:
        with ExitStack() as stack:
            stream = _open_text(path, stack)
            # The stream stands behind the header afterwards: the file is read once, from front to back.
            columns = _read_header(stream)
            frame = pd.read_csv(
                stream,
                header=None,
                names=columns,
                dtype={name: "str" if name == TARGET else np.float32 for name in columns},
                na_values="na",
                # Only then is an empty field an error, and with it a row that was cut short.
                keep_default_na=False,
            )
        if not len(frame):
            raise ValueError("no rows below the header")
        if foreign := sorted(set(frame[TARGET].fillna("na")) - set(LABELS)):
            raise ValueError(f"class label {foreign[0]!r}")
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged or foreign (got {error}), expected {EXPECTED}.") from error
    return frame


def _open_text(path: Path, stack: ExitStack) -> TextIO:
    """Open a plain, gzipped or zipped CSV; told by its first bytes, as browsers unpack and keep the name."""
    raw = stack.enter_context(path.open("rb"))
    magic = raw.read(4)
    raw.seek(0)
    binary: Any = raw
    if magic[:2] == b"\x1f\x8b":
        binary = stack.enter_context(gzip.GzipFile(fileobj=raw))
    elif magic == b"PK\x03\x04":
        archive = stack.enter_context(zipfile.ZipFile(raw))
        wanted = path.name.removesuffix(".zip")
        inside = [name for name in archive.namelist() if PurePath(name).name == wanted]
        if not inside:
            raise ValueError(f"the archive has no {wanted}")
        binary = stack.enter_context(archive.open(inside[0]))
    # The licence text of some copies is not UTF-8; the header and the rows are ASCII.
    return stack.enter_context(io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace"))


def _read_header(stream: TextIO) -> list[str]:
    """Return the column names of the header line, wherever it is, and leave the stream behind that line."""
    for _ in range(LAST_HEADER_LINE):
        # A file without line ends must not be read whole in search of one.
        columns = [name.strip().strip('"') for name in stream.readline(65_536).split(",")]
        if columns[0] == TARGET:
            break
    else:
        raise ValueError("no header line")
    odd = [name for name in columns[1:] if not ATTRIBUTE.fullmatch(name)]
    if odd or len(columns) == 1 or len(set(columns)) < len(columns):
        raise ValueError(f"header of {len(columns)} columns that begins {','.join(columns[:4])}")
    return columns


def _read_openml(parts: tuple[str, ...], missing: list[str], data_home: DataHome) -> pd.DataFrame:
    """Return rows of OpenML's copy in the form of the files."""
    cache = None if data_home is None else os.path.expanduser(data_home)
    try:
        frame = fetch_openml(data_id=OPENML_ID, data_home=cache, as_frame=True, parser="pandas").frame
    except (OSError, HTTPException, ValueError) as error:
        raise OSError(
            f"{' and '.join(missing)} not found in {where(data_home)}, and the download from {OPENML_URL} "
            f"failed ({error}): get the files from {UCI_URL} and {HOW_TO_POINT}."
        ) from error
    frame = frame.astype({name: "str" if name == TARGET else np.float32 for name in frame.columns})
    if len(parts) == len(FILES):
        return frame
    rows = OPENML_PARTS["train"][0]
    cut = {"train": frame.iloc[:rows], "test": frame.iloc[rows:]}
    found = {part: (len(piece), int((piece[TARGET] == "pos").sum())) for part, piece in cut.items()}
    if found != OPENML_PARTS:
        raise OSError(
            f"The data of {OPENML_URL} do not hold the training rows and then the test rows (rows and failures are "
            f"expected to be {OPENML_PARTS}, got {found}): use subset='all', or the files from {UCI_URL}."
        )
    return cut[parts[0]].reset_index(drop=True)

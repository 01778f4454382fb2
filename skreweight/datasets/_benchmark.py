"""The benchmark of imbalanced-learn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from ._home import HOW_TO_POINT, DataHome, data_homes, where

N_SETS = 27


def fetch_benchmark(
    names: str | Sequence[str | int] | None = None,
    data_home: DataHome = None,
    *,
    download_if_missing: bool = True,
) -> dict[str, Any]:
    """Load the 27 binary imbalanced data sets of imbalanced-learn, or some of them.

    This is :func:`imblearn.datasets.fetch_datasets` with this package's way of finding a folder.

    Parameters
    ----------
    names : sequence of str or int, str or None, default=None
        Names or numbers (1 to 27) of sets as in imbalanced-learn's table. "available": those that are there
        without a download, from the first folder that has any. None: all 27.
    data_home : str or path-like, default=None
        The only folder to look in, as files `zenodo/x1data.npz` to `zenodo/x27data.npz`. None: the folder
        named by the environment variable SKREWEIGHT_DATA, then scikit-learn's cache, which downloads go to.
        The sets all come from one folder.
    download_if_missing : bool, default=True
        False: raise an OSError instead of downloading. A download is always of all 27 sets.

    Returns
    -------
    datasets : dict of str to :class:`~sklearn.utils.Bunch`
        Each with `data` of shape (n_rows, n_features), float64, `target` of shape (n_rows,), 1 for the rare
        class and -1 for the other, and `DESCR`, its name.

    Raises
    ------
    ImportError
        If imbalanced-learn is not installed.
    OSError
        If a set is missing and may not, or cannot, be downloaded.
    ValueError
        If imbalanced-learn has no set of that name.

    Examples
    --------
    >>> from skreweight.datasets import fetch_benchmark
    >>> fetch_benchmark(["ecoli"])["ecoli"].data.shape  # doctest: +SKIP
    (336, 7)
    """
    try:
        fetch_datasets = import_module("imblearn.datasets").fetch_datasets
    except ImportError as error:
        raise ImportError(
            "fetch_benchmark needs imbalanced-learn: pip install 'skreweight[examples]'."
        ) from error

    asked = "any set" if names == "available" else "all 27 sets" if names is None else f"{names}"
    if names == "available":
        names = _available(data_home)
    elif isinstance(names, str):
        names = [names]
    wanted = None if names is None else tuple(names)
    if wanted != ():
        for home in data_homes(data_home):
            with suppress(OSError):
                return fetch_datasets(data_home=str(home), filter_data=wanted, download_if_missing=False)
    missing = f"Did not find {asked} of the benchmark in the subfolder zenodo of {where(data_home)}"
    if wanted == () or not download_if_missing:
        raise OSError(f"{missing}: {HOW_TO_POINT}, or allow the download.")
    *_, cache = data_homes(data_home)
    try:
        return fetch_datasets(data_home=str(cache), filter_data=wanted)
    except OSError as error:
        raise OSError(f"{missing}, and the download failed ({error}): {HOW_TO_POINT}.") from error


def _available(data_home: DataHome) -> list[int]:
    """Return the numbers of the sets in the first folder that has any."""
    for home in data_homes(data_home):
        if numbers := [i for i in range(1, N_SETS + 1) if (home / f"zenodo/x{i}data.npz").is_file()]:
            return numbers
    return []

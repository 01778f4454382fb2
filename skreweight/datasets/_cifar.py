"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ._checks import check_choice, read_npz
from ._home import HOW_TO_POINT, DataHome, find_file, where

SPLITS = ("train", "test")


class _Folder(NamedTuple):
    """Files and keys of the "python version" of one data set."""

    name: str
    files: dict[str, list[str]]
    labels: str
    meta: str
    label_names: str


PICKLES = {
    "cifar10": _Folder(
        "cifar-10-batches-py",
        {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]},
        "labels",
        "batches.meta",
        "label_names",
    ),
    "cifar100": _Folder(
        "cifar-100-python", {"train": ["train"], "test": ["test"]}, "fine_labels", "meta", "fine_label_names"
    ),
}
ARRAYS = {"cifar100-apple-fish": "cifar100_apple_fish.npz", "cifar10-lt100": "cifar10_lt100.npz"}

DESCR = """\
CIFAR ({name})
==============

Colour photographs of 32 x 32 pixels, from "Learning multiple layers of features from tiny images"
(Krizhevsky, 2009), https://www.cs.toronto.edu/~kriz/cifar.html. cifar10 and cifar100 have 50,000 training and
10,000 test images of 10 and of 100 classes. cifar100-apple-fish is classes 0 and 1 of cifar100 (Liu et al.,
2022). cifar10-lt100 is long-tailed with ratio 100, 5,000 to 50 training images a class (Qi et al., eq. 8);
where its test images are fewer than 10,000, say so when results are set beside published ones.
"""


def load_cifar(
    name: str = "cifar10",
    data_home: DataHome = None,
    *,
    split: str = "train",
    scaled: bool = False,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[Any], NDArray[np.int64]]:
    """Load CIFAR images from files on this machine.

    ======================  =============================================================
    name                    read from
    ======================  =============================================================
    "cifar10"               the folder `cifar-10-batches-py`
    "cifar100"              the folder `cifar-100-python`
    "cifar100-apple-fish"   `cifar100_apple_fish.npz`
    "cifar10-lt100"         `cifar10_lt100.npz`
    ======================  =============================================================

    The two folders are the "python version" of https://www.cs.toronto.edu/~kriz/cifar.html, which torchvision
    downloads and unpacks to the same place: give the `root` of its `CIFAR10` as `data_home`. The npz files
    hold `X_train`, `X_test` (n, 32, 32, 3) uint8, `y_train`, `y_test` and the names `classes`; without them,
    :func:`skreweight.datasets.imbalance.subsample` draws such rows from the whole sets. Nothing is
    downloaded.

    Parameters
    ----------
    name : {"cifar10", "cifar100", "cifar100-apple-fish", "cifar10-lt100"}, default="cifar10"
    data_home : str or path-like, default=None
        The only folder to look in. None: the folder named by the environment variable SKREWEIGHT_DATA, then
        scikit-learn's cache.
    split : {"train", "test"}, default="train"
    scaled : bool, default=False
        True: float32 in [0, 1] of shape (n, 3, 32, 32), as torch's convolutions take them, in four times the
        memory. False: the bytes as they are, uint8 of shape (n, 32, 32, 3).
    return_X_y : bool, default=False
        Return `(data, target)` instead of the Bunch.

    Returns
    -------
    dataset : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n, 32, 32, 3), uint8, or (n, 3, 32, 32), float32
            The images.
        target : ndarray of shape (n,), int64
            Their classes.
        target_names : list of str
            The class names; ``target_names[target[i]]`` is that of image i.
        source : list of str
            The files that were read.
        DESCR : str
            What the data are.
    (data, target) : tuple
        If `return_X_y` is True.

    Raises
    ------
    OSError
        If a file is missing.
    ValueError
        If a file is damaged or is something else.

    Notes
    -----
    The files of the two folders are pickles, and a pickle can run code of its author when it is read. They
    are read here by an unpickler that knows nothing but NumPy arrays and the plain containers, and refuses a
    file that asks for anything else.

    Examples
    --------
    >>> from skreweight.datasets import load_cifar
    >>> X, y = load_cifar("cifar100", split="test", scaled=True, return_X_y=True)  # doctest: +SKIP
    >>> X.shape, X.dtype  # doctest: +SKIP
    ((10000, 3, 32, 32), dtype('float32'))
    """
    check_choice("name", name, (*PICKLES, *ARRAYS))
    check_choice("split", split, SPLITS)
    read = _read_pickles if name in PICKLES else _read_arrays
    X, y, target_names, source = read(name, split, data_home)
    if scaled:
        X = X.transpose(0, 3, 1, 2).astype(np.float32, order="C")
        X /= 255
    if return_X_y:
        return X, y
    return Bunch(data=X, target=y, target_names=target_names, source=source, DESCR=DESCR.format(name=name))


Images = tuple[NDArray[Any], NDArray[np.int64], list[str], list[str]]


def _read_arrays(name: str, split: str, data_home: DataHome) -> Images:
    """Return images, labels, class names and source from an npz file."""
    path = _find(ARRAYS[name], data_home)
    arrays = read_npz(path, (f"X_{split}", f"y_{split}", "classes"))
    X, y, classes = arrays.values()
    if X.dtype != np.uint8 or X.shape[1:] != (32, 32, 3) or y.shape != X.shape[:1]:
        raise ValueError(
            f"{path} is damaged or foreign: uint8 images (n, 32, 32, 3) and n labels are expected, got {X.dtype} "
            f"{X.shape} and {y.shape}."
        )
    return X, y.astype(np.int64), classes.tolist(), [str(path)]


def _read_pickles(name: str, split: str, data_home: DataHome) -> Images:
    """Return images, labels, class names and source from the files of the python version."""
    folder = PICKLES[name]
    paths = [_find(f"{folder.name}/{file}", data_home) for file in folder.files[split]]
    meta = _find(f"{folder.name}/{folder.meta}", data_home)
    planes, labels = [], []
    for path in paths:
        batch = _unpickle(path, ("data", folder.labels))
        data, y = batch["data"], np.asarray(batch[folder.labels], dtype=np.int64)
        if getattr(data, "dtype", None) != np.uint8 or data.shape != (len(y), 3 * 32 * 32):
            raise ValueError(
                f"{path} is damaged or foreign: uint8 data (n, 3072) and n labels are expected, got "
                f"{getattr(data, 'dtype', type(data).__name__)} {np.shape(data)} and {y.shape}."
            )
        planes.append(data)
        labels.append(y)
    # Each row holds the red, the green and the blue plane one after the other.
    X = np.concatenate(planes).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    names = list(_unpickle(meta, (folder.label_names,))[folder.label_names])
    return np.ascontiguousarray(X), np.concatenate(labels), names, [str(path) for path in paths]


def _find(file: str, data_home: DataHome) -> Path:
    """Return the path of a file that must be there."""
    path = find_file([file], data_home)
    if path is None:
        raise OSError(f"{file} not found in {where(data_home)}: {HOW_TO_POINT}.")
    return path


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler of dicts, lists, strings and NumPy arrays, which are all that CIFAR's files hold."""

    # NumPy renamed its core in version 2; the published files were written by version 1 under Python 2.
    known: ClassVar = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        **{
            (module, "_reconstruct"): np.empty(0).__reduce__()[0]
            for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        },
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.known[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def _unpickle(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the dict in a file of the python version, which must have some keys."""
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
        if not isinstance(content, dict) or not set(keys) <= set(content):
            raise ValueError("other content")
    # The bytes of a foreign file are instructions to the unpickler and may fail in any of these ways.
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError, EOFError, LookupError) as error:
        raise ValueError(
            f"{path} is damaged or foreign (got {error}), expected a pickled dict with {', '.join(keys)}."
        ) from error
    return content

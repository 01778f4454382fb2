"""Loaders of the papers' data and of other imbalanced data, and the papers' protocols.

Every loader looks for files in `data_home`, else in the folder named by the environment variable
SKREWEIGHT_DATA, else in scikit-learn's cache. The module :mod:`skreweight.datasets.imbalance` makes data
imbalanced.
"""

from . import imbalance
from ._aps import fetch_aps_failure
from ._benchmark import fetch_benchmark
from ._bundled import load_bundled
from ._cifar import load_cifar
from ._sentences import TextEncoder, encode_sentences, fine_tune_encoder
from ._sst import load_sst

__all__ = [
    "TextEncoder",
    "encode_sentences",
    "fetch_aps_failure",
    "fetch_benchmark",
    "fine_tune_encoder",
    "imbalance",
    "load_bundled",
    "load_cifar",
    "load_sst",
]

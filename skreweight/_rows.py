"""The rows of one fit: what to train on, what to validate on, how much each counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skreweight._inputs import cast_like, is_dataset, stack_items
from skreweight.batches import Batch, LoaderBatches, TensorBatches, to_device
from skreweight.core.rows import take_rows

#: Memory-mapped rows of another dtype than the module's are cast batch by batch above this size (bytes).
MEMORY_MAP_LIMIT = 2**30
#: So are rows of a shorter floating dtype (float16), whose copy would be twice as large as they are.
SHORT_LIMIT = 2**26
#: Rows are kept on the GPU while they take up no more than this share of its free memory.
DEVICE_SHARE = 0.5


@dataclass
class Labelled:
    """Rows as the user passed them, checked: features, class codes, sample weights.

    ``features`` is a tensor, a dict of tensors or a torch Dataset; ``weights`` is None where all count once.
    """

    features: Any
    codes: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def candidates(self) -> NDArray[np.int64]:
        """The rows that count: those of positive weight."""
        if self.weights is None:
            return np.arange(len(self.codes))
        return np.flatnonzero(self.weights > 0)

    def class_counts(self, rows: NDArray[np.int64] | None, n_classes: int) -> NDArray[np.float64]:
        """(Weighted) number of rows of each class; None for `rows` means all."""
        codes = self.codes if rows is None else self.codes[rows]
        weights = None if self.weights is None else (self.weights if rows is None else self.weights[rows])
        return np.bincount(codes, weights, minlength=n_classes).astype(np.float64)


@dataclass
class FitRows:
    """The rows of one fit on the training device.

    Attributes
    ----------
    features, targets : all rows of X (and the given validation rows after them, if they are trained on)
    train : torch.Tensor of shape (n,), int64, or None
        Which of them are trained on; None: all.
    multiplicity : torch.Tensor or None
        Sample weights, scaled to mean 1 over the training rows.
    x_val, val_targets : validation rows, or None
    n_given : int
        Rows of X as passed to fit.
    device, dtype : of the module's parameters
    cast_batches : bool
        Whether rows held in memory must be cast batch by batch.
    """

    features: Any
    targets: Tensor
    train: Tensor | None
    multiplicity: Tensor | None
    x_val: Any
    val_targets: Tensor | None
    n_given: int
    device: torch.device
    dtype: torch.dtype
    cast_batches: bool = False

    def training_batches(self, loader: Any, options: dict[str, Any]) -> Iterable[Batch]:
        """Mini-batches of the training rows: cut from tensors, or through the user's loader."""
        if is_dataset(self.features):
            if loader is not None:
                options = {**options, "loader": loader}
            return LoaderBatches(
                self.features, self.targets, self.train, self.device, dtype=self.dtype, **options
            )
        if loader is not None:
            items = _TensorItems(self.features)
            return LoaderBatches(
                items, self.targets, self.train, self.device, dtype=self.dtype, loader=loader, **options
            )
        unknown = sorted(set(options) - {"batch_size", "shuffle", "drop_last", "batch_sampler"})
        if unknown:
            raise ValueError(
                f"iterator_train__{unknown[0]} needs iterator_train=torch.utils.data.DataLoader: rows held in memory "
                "are cut into batches without it."
            )
        return TensorBatches(
            self.features,
            self.targets,
            self.train,
            self.device,
            dtype=self.dtype if self.cast_batches else None,
            **options,
        )

    def validation_batches(self, options: dict[str, Any]) -> Iterable[Batch]:
        """Mini-batches of the validation rows, with positions among them for row indices."""
        assert self.val_targets is not None
        kept = {k: v for k, v in options.items() if k in ("batch_size", "shuffle", "drop_last")}
        return TensorBatches(self.x_val, self.val_targets, None, self.device, **kept)


class _TensorItems(torch.utils.data.Dataset[Any]):
    """Tensors as a Dataset, for a loader of the user's."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x if isinstance(self.x, Tensor) else next(iter(self.x.values())))

    def __getitem__(self, row: int) -> Any:
        return self.x[row] if isinstance(self.x, Tensor) else {k: v[row] for k, v in self.x.items()}


def place(
    given: Labelled,
    held: NDArray[np.int64],
    given_validation: Labelled | None,
    *,
    train_on_validation: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> FitRows:
    """Bring rows to the device and decide which are trained on.

    Parameters
    ----------
    given : Labelled
        X, y and sample weights.
    held : ndarray of shape (m,)
        Rows of X held out for validation; empty where validation rows were given, or none are needed.
    given_validation : Labelled or None
        Validation rows that are no rows of X.
    train_on_validation : bool
        Whether validation rows are training rows too.
    dtype : torch.dtype
        Floating dtype of the module's parameters.
    device : torch.device
    """
    features, codes, weights = given.features, given.codes, given.weights
    if not is_dataset(features):
        features = _placed(features, dtype, device)
    x_val, val_codes = None, None
    if given_validation is not None:
        x_val = to_device(cast_like(given_validation.features, dtype), device)
        val_codes = given_validation.codes
    elif len(held):
        taken = stack_items(features, held) if is_dataset(features) else _take(features, held)
        x_val, val_codes = to_device(cast_like(taken, dtype), device), given.codes[held]
    candidates = given.candidates
    if train_on_validation and given_validation is not None:
        if is_dataset(features):
            raise ValueError(
                "train_on_validation with a Dataset needs validation rows carved from it, not a given pair."
            )
        added = to_device(x_val, _home(features))
        features = (
            torch.cat([features, added])
            if isinstance(features, Tensor)
            else {k: torch.cat([v, added[k]]) for k, v in features.items()}
        )
        candidates = np.concatenate([candidates, len(codes) + np.arange(len(given_validation.codes))])
        codes = np.concatenate([codes, given_validation.codes])
        weights = (
            None
            if weights is None
            else np.concatenate([weights, np.full(len(given_validation), weights[weights > 0].mean())])
        )
    elif len(held) and not train_on_validation:
        is_held = np.zeros(len(codes), dtype=bool)
        is_held[held] = True
        candidates = candidates[~is_held[candidates]]
    everything = len(candidates) == len(codes)
    multiplicity = None
    if weights is not None:
        multiplicity = torch.as_tensor(weights / weights[candidates].mean(), dtype=dtype, device=device)
    return FitRows(
        features=features,
        targets=torch.from_numpy(codes).to(device),
        train=None if everything else torch.from_numpy(candidates).to(device),
        multiplicity=multiplicity,
        x_val=x_val,
        val_targets=None if val_codes is None else torch.from_numpy(val_codes).to(device),
        n_given=len(given),
        device=device,
        dtype=dtype,
        cast_batches=cast_by_batch(features, dtype),
    )


def _placed(features: Any, dtype: torch.dtype, device: torch.device) -> Any:
    if not cast_by_batch(features, dtype):
        features = cast_like(features, dtype)
    elif _is_memory_mapped(features):
        return features
    if device.type == "cuda" and _n_bytes(features) > DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return features
    return to_device(features, device)


def cast_by_batch(features: Any, dtype: torch.dtype) -> bool:
    """Whether rows are too many to be cast to the module's dtype as a whole: memory-mapped, or of a shorter dtype."""
    if not isinstance(features, Tensor) or not features.is_floating_point() or features.dtype == dtype:
        return False
    if _is_memory_mapped(features):
        return features.nbytes > MEMORY_MAP_LIMIT
    return features.itemsize < dtype.itemsize and features.nbytes > SHORT_LIMIT


def _is_memory_mapped(features: Any) -> bool:
    return getattr(features, "is_memory_mapped", False)


def _n_bytes(features: Any) -> int:
    return features.nbytes if isinstance(features, Tensor) else sum(v.nbytes for v in features.values())


def _home(features: Any) -> torch.device:
    return (features if isinstance(features, Tensor) else next(iter(features.values()))).device


def _take(features: Any, rows: NDArray[np.int64]) -> Any:
    return take_rows(features, torch.from_numpy(rows).to(_home(features)))

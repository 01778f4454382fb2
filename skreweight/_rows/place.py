"""The rows of one fit: what to train on, what to validate on, how much each counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skreweight._rows.batches import Batch, LoaderBatches, TensorBatches, to_device
from skreweight._rows.check import cast_like, is_dataset, stack_items
from skreweight._rows.samplers import Sampler
from skreweight._rows.shares import Sharing
from skreweight.core.rows import take_rows

#: Memory-mapped rows of another dtype than the module's are cast batch by batch above this size (bytes).
MEMORY_MAP_LIMIT = 2**30
#: So are rows of a shorter floating dtype (float16), whose copy would be twice as large as they are.
SHORT_LIMIT = 2**26
#: Rows are kept on the GPU while they take up no more than this share of its free memory.
DEVICE_SHARE = 0.5


@dataclass(frozen=True)
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


class Judged(NamedTuple):
    """Rows that networks are judged on: features (*M, m, ...), codes (*M, m), and how much each counts, (*M, m).

    None for the weights: all count alike. A weight of 0 fills up a member that has fewer rows than others.
    """

    x: Any
    targets: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of one fit on the training device; leading axes M are members: () for one network, (K,) for K.

    Attributes
    ----------
    x : torch.Tensor of shape (N, ...), dict of such, or torch Dataset
        All rows of X (and the given validation rows after them, if they are trained on); one for all members.
    targets : torch.Tensor of shape (N,), int64
    train : torch.Tensor of shape (*M, n), int64, or None
        Which of them are trained on; None: all.
    validation : tuple of (features, torch.Tensor) or None
        Validation rows and their codes, (m, ...) and (m,) for all members or (*M, m, ...) and (*M, m).
    multiplicity : torch.Tensor of shape (N,) or (*M, N), or None
        Sample weights, scaled to mean 1 over the training rows.
    class_counts : torch.Tensor of shape (C,) or (*M, C)
        (Weighted) number of training rows of each class.
    n_given : int
        Rows of X as passed to fit.
    judged : Judged or None
        What parameters are judged on, by the loss alone, where that is not the validation rows: a method that
        learns from those would be judged on what it has learned.
    device, dtype : of the module's parameters
    cast_batches : bool
        Whether rows held in memory must be cast batch by batch.
    """

    x: Any
    targets: Tensor
    train: Tensor | None
    validation: tuple[Any, Tensor] | None
    multiplicity: Tensor | None
    class_counts: Tensor
    n_given: int
    device: torch.device
    dtype: torch.dtype
    cast_batches: bool = False
    judged: Judged | None = None

    def batches(
        self,
        which: Literal["training", "validation"],
        options: Mapping[str, Any],
        *,
        loader: Any = None,
        generators: Sequence[torch.Generator] | None = None,
        shares: Tensor | None = None,
        sharing: Callable[[int], Sharing | None] = lambda n_rows: None,
    ) -> Iterable[Batch]:
        """Mini-batches of the training or of the validation rows, for any number of epochs.

        Parameters
        ----------
        which : {"training", "validation"}
            The rows of a batch of validation rows are their positions among them.
        options : mapping
            ``batch_size``, ``shuffle`` and so on, see `TensorBatches` and `LoaderBatches`.
        loader : callable or None, default=None
            The user's own loader, for training rows; None cuts batches from tensors.
        generators : sequence of K torch.Generator or None, default=None
            What each member draws its orders from; None: the fit's own.
        shares : torch.Tensor of shape (*M, C) or None, default=None
            The share of each class among the training rows that are drawn, sample weights included (see
            `skreweight._rows.samplers.Sampler`); None: each training row comes once an epoch.
        sharing : callable (n_rows) -> Sharing or None
            How so many rows are spread over processes; None: this one takes all.
        """
        if which == "validation":
            return self._validation_batches(options, generators, sharing)
        spread = sharing(len(self.targets))
        draw = None if shares is None else self._sampler(shares, generators)
        if loader is None and not is_dataset(self.x):
            return self._training_batches(options, generators, draw, spread)
        if generators is not None or (self.train is not None and self.train.dim() > 1):
            raise ValueError(
                "Members trained at once cut their batches from tensors: leave iterator_train at None, and pass "
                "arrays instead of a Dataset."
            )
        items = self.x if is_dataset(self.x) else _TensorItems(self.x)
        chosen = dict(options) if loader is None else {**options, "loader": loader}
        return LoaderBatches(
            items,
            self.targets,
            self.train,
            self.device,
            dtype=self.dtype,
            draw=draw,
            sharing=spread,
            **chosen,
        )

    def _sampler(self, shares: Tensor, generators: Sequence[torch.Generator] | None) -> Sampler:
        codes, multiplicity = self.targets, self.multiplicity
        if self.train is not None:
            codes = take_rows(codes, self.train)
            if multiplicity is not None:
                shape = torch.broadcast_shapes(multiplicity.shape[:-1], self.train.shape[:-1])
                multiplicity = multiplicity.expand(*shape, -1).gather(-1, self.train.expand(*shape, -1))
        return Sampler(codes, shares.to(self.device), multiplicity, generators)

    def few(self, n_most: int = 2) -> Any:
        """Return the features of a few training rows, (n, ...), for a look at what one network makes of them."""
        first = (
            torch.arange(len(self.targets))
            if self.train is None
            else self.train.view(-1, self.train.shape[-1])[0]
        )
        first = first[:n_most]
        if is_dataset(self.x):
            return to_device(cast_like(stack_items(self.x, first.cpu().numpy()), self.dtype), self.device)
        taken = take_rows(self.x, first.to(_home(self.x)))
        return to_device(cast_like(taken, self.dtype), self.device)

    def some(self, n_most: int) -> Any:
        """Return the features of the first training rows, up to `n_most`; None for a Dataset."""
        if is_dataset(self.x):
            return None
        count = min(n_most, len(self.targets))
        first = torch.arange(count, device=self.device) if self.train is None else self.train[..., :n_most]
        return to_device(take_rows(self.x, first.to(_home(self.x))), self.device)

    def _training_batches(
        self,
        options: Mapping[str, Any],
        generators: Sequence[torch.Generator] | None,
        draw: Callable[[], Tensor] | None,
        sharing: Sharing | None,
    ) -> TensorBatches:
        unknown = sorted(set(options) - {"batch_size", "shuffle", "drop_last", "batch_sampler"})
        if unknown:
            raise ValueError(
                f"iterator_train__{unknown[0]} needs iterator_train=torch.utils.data.DataLoader: rows held in memory "
                "are cut into batches without it."
            )
        return TensorBatches(
            self.x,
            self.targets,
            self.train,
            self.device,
            dtype=self.dtype if self.cast_batches else None,
            generators=generators,
            draw=draw,
            sharing=sharing,
            **options,
        )

    def _validation_batches(
        self,
        options: Mapping[str, Any],
        generators: Sequence[torch.Generator] | None,
        sharing: Callable[[int], Sharing | None],
    ) -> Iterable[Batch]:
        assert self.validation is not None
        x, targets = self.validation
        kept = {k: v for k, v in options.items() if k in ("batch_size", "shuffle", "drop_last")}
        if targets.dim() == 1:
            spread = sharing(len(targets))
            return TensorBatches(x, targets, None, self.device, generators=generators, sharing=spread, **kept)
        # Each member's own rows one after another, in one tensor that the members index.
        first = targets.shape[-1] * torch.arange(len(targets), device=self.device).unsqueeze(-1)
        own = first + torch.arange(targets.shape[-1], device=self.device)
        x = {k: v.flatten(0, 1) for k, v in x.items()} if isinstance(x, Mapping) else x.flatten(0, 1)
        cut = TensorBatches(x, targets.flatten(), own, self.device, generators=generators, **kept)
        return _Numbered(cut, first)


class _Numbered:
    """Batches whose row numbers begin at 0 for each member."""

    def __init__(self, batches: TensorBatches, first: Tensor) -> None:
        self._batches, self._first = batches, first

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            yield batch._replace(rows=batch.rows - self._first)


class _TensorItems(torch.utils.data.Dataset[Any]):
    """Tensors as a Dataset, for a loader of the user's."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x if isinstance(self.x, Tensor) else next(iter(self.x.values())))

    def __getitem__(self, row: int) -> Any:
        return self.x[row] if isinstance(self.x, Tensor) else {k: v[row] for k, v in self.x.items()}


@dataclass(frozen=True)
class Given:
    """What a user passed, checked, and what of it is held out.

    Attributes
    ----------
    labelled : Labelled
        X, y and sample weights.
    held : ndarray of shape (m,)
        Rows of X held out for validation; empty where validation rows were given, or none are needed.
    validation : Labelled or None
        Validation rows that are no rows of X.
    train_on_validation : bool
        Whether validation rows are training rows too.
    class_counts : ndarray of shape (C,)
        (Weighted) number of training rows of each class.
    judged : Labelled or None
        What parameters are judged on instead of the validation rows.
    """

    labelled: Labelled
    held: NDArray[np.int64]
    validation: Labelled | None
    train_on_validation: bool
    class_counts: NDArray[np.float64]
    judged: Labelled | None = None

    @property
    def trained(self) -> NDArray[np.int64]:
        """The rows of X that are trained on."""
        candidates = self.labelled.candidates
        if not len(self.held) or self.train_on_validation:
            return candidates
        is_held = np.zeros(len(self.labelled), dtype=bool)
        is_held[self.held] = True
        return candidates[~is_held[candidates]]

    def on(self, device: torch.device, dtype: torch.dtype) -> Rows:
        """Bring rows to the device and decide which are trained on.

        Parameters
        ----------
        device : torch.device
        dtype : torch.dtype
            Floating dtype of the module's parameters.

        Raises
        ------
        ValueError
            Where a figure does not fit the dtype, or rows cannot be added to a Dataset.
        """
        features, codes, weights = self.labelled.features, self.labelled.codes, self.labelled.weights
        if not is_dataset(features):
            features = placed(features, dtype, device)
        x_val, val_codes = None, None
        if self.validation is not None:
            x_val = to_device(cast_like(self.validation.features, dtype), device)
            val_codes = self.validation.codes
        elif len(self.held):
            taken = stack_items(features, self.held) if is_dataset(features) else _take(features, self.held)
            x_val, val_codes = to_device(cast_like(taken, dtype), device), codes[self.held]
        candidates = self.trained
        if self.train_on_validation and self.validation is not None:
            features = _joined(features, x_val)
            candidates = np.concatenate([candidates, len(codes) + np.arange(len(self.validation))])
            codes = np.concatenate([codes, self.validation.codes])
            if weights is not None:
                added = np.full(len(self.validation), weights[weights > 0].mean())
                weights = np.concatenate([weights, added])
        multiplicity = None
        if weights is not None:
            multiplicity = torch.as_tensor(weights / weights[candidates].mean(), dtype=dtype, device=device)
        everything = len(candidates) == len(codes)
        return Rows(
            x=features,
            targets=torch.from_numpy(codes).to(device),
            train=None if everything else torch.from_numpy(candidates).to(device),
            validation=None if val_codes is None else (x_val, torch.from_numpy(val_codes).to(device)),
            multiplicity=multiplicity,
            class_counts=torch.as_tensor(self.class_counts, dtype=dtype, device=device),
            n_given=len(self.labelled),
            device=device,
            dtype=dtype,
            cast_batches=cast_by_batch(features, dtype),
            judged=self._judged_on(device, dtype),
        )

    def _judged_on(self, device: torch.device, dtype: torch.dtype) -> Judged | None:
        if self.judged is None:
            return None
        weights = None
        if self.judged.weights is not None:
            weights = torch.as_tensor(self.judged.weights, dtype=dtype, device=device)
        x = to_device(cast_like(self.judged.features, dtype), device)
        return Judged(x, torch.from_numpy(self.judged.codes).to(device), weights)


def _joined(features: Any, x_val: Any) -> Any:
    """Features with validation rows after them."""
    if is_dataset(features):
        raise ValueError(
            "train_on_validation with a Dataset needs validation rows carved from it, not a given pair."
        )
    added = to_device(x_val, _home(features))
    if isinstance(features, Tensor):
        return torch.cat([features, added])
    return {k: torch.cat([v, added[k]]) for k, v in features.items()}


def placed(features: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Return rows on the device, in the dtype of the module's parameters, unless they are too many for it."""
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

"""Mini-batches that carry row indices, cut from whole tensors or from a torch Dataset.

Leading axes are members: K networks trained at once index one X, each in an order of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from skreweight._rows.shares import Shares, Sharing
from skreweight.core.random_state import own_generator
from skreweight.core.rows import take_rows


class Batch(NamedTuple):
    """Rows of X by index (*M, B), their features (*M, B, ...) and their class codes (*M, B), on the training device."""

    rows: Tensor
    x: Any
    targets: Tensor


class TensorBatches:
    """Mini-batches cut from tensors by one ``index_select`` each: no worker, no collate, no copy of X.

    The class that ``iterator_train=None`` stands for. The keyword parameters are those of torch's
    ``DataLoader`` and are set as ``iterator_train__batch_size`` and so on.

    Parameters
    ----------
    x : torch.Tensor of shape (N, ...) or dict of such
        All rows. May lie on the host while `device` is a GPU: batches then travel one by one.
    targets : torch.Tensor of shape (N,), int64
        Class codes, on `device`.
    rows : torch.Tensor of shape (n,) or (K, n), int64, or None
        Which rows to train on, for each of K members where there are as many; None: all of them.
    device : torch.device
    batch_size : int, default=128
        −1 puts all rows into one batch.
    shuffle : bool, default=True
        Draw a new order in each epoch.
    drop_last : bool, default=False
        Leave out a last batch that is short.
    batch_sampler : iterable of index arrays or None, default=None
        Positions among the training rows, batch by batch, iterated anew in each epoch, (B,) for all members or
        (K, B); replaces the three parameters above.
    dtype : torch.dtype or None, default=None
        What each batch is cast to where X is of another floating dtype and too large to be cast whole.
    generators : sequence of K torch.Generator or None, default=None
        What each member draws its orders from; None: the fit's own.
    draw : callable () -> torch.Tensor of shape (n,) or (*M, n), or None, default=None
        Draws the positions among the training rows of an epoch, in place of `shuffle`.
    sharing : Sharing or None, default=None
        Which rows of each batch are this process's; None: all.

    Examples
    --------
    >>> import torch
    >>> batches = TensorBatches(torch.arange(10.0).reshape(5, 2), torch.tensor([0, 1, 0, 1, 0]),
    ...                         rows=torch.tensor([4, 2, 0]), device=torch.device("cpu"),
    ...                         batch_size=2, shuffle=False)
    >>> [batch.rows.tolist() for batch in batches]
    [[4, 2], [0]]
    """

    def __init__(
        self,
        x: Tensor | Mapping[str, Tensor],
        targets: Tensor,
        rows: Tensor | None,
        device: torch.device,
        *,
        batch_size: int = 128,
        shuffle: bool = True,
        drop_last: bool = False,
        batch_sampler: Iterable[Any] | None = None,
        dtype: torch.dtype | None = None,
        generators: Sequence[torch.Generator] | None = None,
        draw: Callable[[], Tensor] | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        if rows is not None and rows.dim() == 2 and generators is not None and len(generators) != len(rows):
            raise ValueError(
                f"Each member needs a generator of its own, got {len(generators)} for {len(rows)} members."
            )
        self.x, self.targets, self.rows = x, targets, rows
        self.device = device
        self.n_rows = len(targets) if rows is None else rows.shape[-1]
        self.batch_size = self.n_rows if batch_size == -1 else int(batch_size)  # numpy's is none to torch
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.batch_sampler = batch_sampler
        self.dtype = dtype
        self.generators = generators
        self.draw = draw
        self.sharing = sharing
        self._home = (x if isinstance(x, Tensor) else next(iter(x.values()))).device

    @property
    def shape(self) -> tuple[int, ...]:
        """M: () for one network, (K,) for K members."""
        if self.generators is not None:
            return (len(self.generators),)
        return () if self.rows is None else tuple(self.rows.shape[:-1])

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._row_batches():
            if self.sharing is not None:
                mine, shares = self.sharing.cut(rows)
                self.sharing.begins(shares)
                rows = rows[mine]
            here = rows.to(self._home)
            x = take_rows(self.x, here)
            if self._home != self.device:
                x = to_device(x, self.device)
            if self.dtype is not None:
                x = x.to(self.dtype)
            yield Batch(rows, x, take_rows(self.targets, rows))

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        return self.n_rows // self.batch_size if self.drop_last else -(-self.n_rows // self.batch_size)

    def _row_batches(self) -> Iterator[Tensor]:
        if self.batch_sampler is not None:
            for positions in self.batch_sampler:
                positions = torch.as_tensor(positions, dtype=torch.int64)
                check_positions(positions, self.n_rows)
                yield self._named(positions.to(self.device))
            return
        for rows in self._named(self._order()).split(self.batch_size, dim=-1):
            if rows.shape[-1] == self.batch_size or not self.drop_last:
                yield rows

    def _order(self) -> Tensor:
        """Positions among the training rows for an epoch, (n,) or (*M, n)."""
        if self.draw is not None:
            return self.draw()
        if not self.shuffle:
            return torch.arange(self.n_rows, device=self.device)
        if not self.shape:
            return torch.randperm(
                self.n_rows, device=self.device, generator=own_generator(self.targets.device)
            )
        if self.generators is None:
            own = own_generator(self.targets.device)
            orders = [
                torch.randperm(self.n_rows, device=self.device, generator=own) for _ in range(*self.shape)
            ]
        else:
            orders = [
                torch.randperm(self.n_rows, generator=g, device=g.device).to(self.device)
                for g in self.generators
            ]
        return torch.stack(orders)

    def _named(self, positions: Tensor) -> Tensor:
        """Row numbers at positions among the training rows, (*M, B)."""
        if not self.shape:
            return positions if self.rows is None else self.rows.index_select(0, positions)
        positions = positions.expand(*self.shape, -1)
        return positions if self.rows is None else self.rows.expand(*self.shape, -1).gather(-1, positions)


def check_positions(positions: Tensor, n_rows: int) -> None:
    """Raise a ValueError for a batch of a user's sampler that is empty, or is not among the training rows."""
    if positions.numel() == 0:
        raise ValueError("iterator_train__batch_sampler gives an empty batch: leave it out.")
    outside = positions[(positions < 0) | (positions >= n_rows)]
    if len(outside):
        raise ValueError(
            f"iterator_train's sampler gives position {int(outside[0])}, and there are {n_rows} training rows: it "
            "counts those that are trained on, from 0, without the rows held out for validation."
        )


class LoaderBatches:
    """Mini-batches of a torch Dataset through a ``DataLoader``, with the row indices carried along.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        Items are ``(x, y)`` pairs or ``x`` alone; the targets come from `targets`.
    targets : torch.Tensor of shape (N,), int64
        Class codes, on `device`.
    rows : torch.Tensor of shape (n,), int64, or None
        Which items to train on; None: all of them.
    device : torch.device
    dtype : torch.dtype or None, default=None
        What floating items are cast to; None: as they are.
    loader : callable, default=torch.utils.data.DataLoader
        Called as ``loader(dataset, **options)``.
    draw : callable () -> torch.Tensor of shape (n,), or None, default=None
        Draws the positions among the training rows of an epoch, unless the options have a sampler.
    sharing : Sharing or None, default=None
        Which rows of each batch are this process's; None: all.
    **options
        Of the loader; ``shuffle`` is True unless a sampler or False is given.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        targets: Tensor,
        rows: Tensor | None,
        device: torch.device,
        *,
        dtype: torch.dtype | None = None,
        loader: Callable[..., Iterable[Any]] = DataLoader,
        draw: Callable[[], Tensor] | None = None,
        sharing: Sharing | None = None,
        **options: Any,
    ) -> None:
        self.targets = targets
        self.device = device
        self.dtype = dtype
        if options.get("batch_size") == -1:
            options["batch_size"] = len(targets) if rows is None else len(rows)
        if options.get("batch_sampler") is not None:
            for key in ("batch_size", "shuffle", "drop_last"):
                options.pop(key, None)
        elif "sampler" not in options:
            if draw is None:
                options.setdefault("shuffle", True)
            else:
                options["shuffle"], options["sampler"] = (
                    None,
                    _Drawn(draw, len(targets) if rows is None else len(rows)),
                )
        self._loader = loader(_Indexed(dataset, rows), **options)
        self._own: _OwnPositions | None = None
        if sharing is not None:
            self._own = _OwnPositions(self._loader, rows, sharing)
            self._loader = self._own.loader

    def __iter__(self) -> Iterator[Batch]:
        if self._own is not None:
            self._own.to_come.clear()  # of an epoch that was broken off
        for rows, x in self._loader:
            if self._own is not None:
                self._own.begin()
            rows = rows.to(self.device)
            yield Batch(rows, self._cast(to_device(x, self.device)), self.targets.index_select(0, rows))

    def _cast(self, x: Any) -> Any:
        if isinstance(x, Mapping):
            return {name: self._cast(value) for name, value in x.items()}
        return x if self.dtype is None or not x.is_floating_point() else x.to(self.dtype)


class _Drawn(Sampler[int]):
    """Positions that are drawn anew in each epoch, as a loader wants them."""

    def __init__(self, draw: Callable[[], Tensor], size: int) -> None:
        self._draw, self._size = draw, size

    def __iter__(self) -> Iterator[int]:
        return iter(self._draw().tolist())

    def __len__(self) -> int:
        return self._size


class _OwnPositions:
    """Batches of positions of another loader, cut down to those of this process.

    Workers read ahead: how each batch is spread waits until its rows come.
    """

    def __init__(self, loader: Any, rows: Tensor | None, sharing: Sharing) -> None:
        if not isinstance(loader, DataLoader) or loader.batch_sampler is None:
            raise ValueError(
                f"Rows are spread over processes by the batch sampler of a torch DataLoader, got "
                f"{type(loader).__name__}: leave iterator_train at None, or set distributed=False."
            )
        self._batches, self._sharing = loader.batch_sampler, sharing
        self._rows = None if rows is None else rows.cpu()
        self.to_come: deque[Shares] = deque()
        kept = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "generator",
                "multiprocessing_context", "persistent_workers", "prefetch_factor")  # fmt: skip
        self.loader = DataLoader(
            loader.dataset, batch_sampler=self, **{name: getattr(loader, name) for name in kept}
        )

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            positions = torch.as_tensor(list(batch), dtype=torch.int64)
            mine, shares = self._sharing.cut(positions if self._rows is None else self._rows[positions])
            self.to_come.append(shares)
            yield positions[mine].tolist()

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def begin(self) -> None:
        """Tell how the batch whose rows have come is spread."""
        self._sharing.begins(self.to_come.popleft())


class _Indexed(Dataset[Any]):
    """A dataset's items with their index, restricted to some rows."""

    def __init__(self, dataset: Dataset[Any], rows: Tensor | None) -> None:
        self.dataset = dataset
        self.rows = None if rows is None else rows.tolist()

    def __len__(self) -> int:
        return len(self.dataset) if self.rows is None else len(self.rows)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> tuple[int, Any]:
        if not 0 <= int(position) < len(self):
            check_positions(torch.tensor([int(position)]), len(self))
        row = int(position) if self.rows is None else self.rows[int(position)]
        return row, features_of(self.dataset[row])


def features_of(item: Any) -> Any:
    """Return x of a dataset's item, which is an ``(x, y)`` pair or x alone.

    Raises
    ------
    ValueError
        For an item of more than two entries.
    """
    if isinstance(item, tuple | list) and len(item) > 2:
        raise ValueError(
            f"An item of the Dataset has {len(item)} entries: (x, y) or x alone is taken; give several inputs as a "
            "dict of tensors in the place of x."
        )
    return item[0] if isinstance(item, tuple | list) else item


def to_device(x: Any, device: torch.device) -> Any:
    """Move a tensor, or every tensor of a mapping, to a device."""
    if isinstance(x, Mapping):
        return {name: value.to(device, non_blocking=True) for name, value in x.items()}
    return x.to(device, non_blocking=True)

"""The rows of a pack: one X that members index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skreweight._classifier import ReweightedClassifier
from skreweight._pack.rates import rates_of
from skreweight._rows.check import cast_like
from skreweight._rows.place import Given, Judged, Rows, placed
from skreweight.core.rows import take_rows

#: Row numbers, and how much each row counts.
JudgedOn = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class Member:
    """An estimator that has begun, what it was given, and which rows of the pack's X that is.

    Attributes
    ----------
    net : ReweightedClassifier
        Its components are made, with its own seed.
    given : Given
    rows : ndarray of shape (n,)
        Numbers in the pack's X of the rows it was given.
    number : int
        Its place among all estimators.
    table : int, default=0
        Which of the tables its rows are of.
    judged : tuple of ndarray or None, default=None
        Rows of the pack's X on which it is judged instead of its validation rows, and how much each counts.
    """

    net: ReweightedClassifier
    given: Given
    rows: NDArray[np.int64]
    number: int
    table: int = 0
    judged: JudgedOn | None = None

    def moved_by(self, first: int) -> Member:
        """Return the member in an X before whose rows as many others stand."""
        judged = None if self.judged is None else (self.judged[0] + first, self.judged[1])
        return replace(self, rows=self.rows + first, judged=judged)

    @property
    def trained(self) -> NDArray[np.int64]:
        """The rows of the pack's X that it trains on."""
        return self.rows[self.given.trained]

    @property
    def held(self) -> NDArray[np.int64]:
        """The rows of the pack's X that it holds out for validation."""
        return self.rows[self.given.held]

    @property
    def start(self) -> tuple[Any, ...]:
        """What its stage 1 depends on besides parameters that the pack agrees in."""
        seed = self.net.progress_.seed
        return (seed, rates_of(self.net), self.trained.tobytes(), self.held.tobytes())

    @property
    def sizes(self) -> tuple[Any, ...]:
        """Numbers of rows, columns and classes, which the members of one pack must agree in."""
        validation = self.given.validation
        n_validation = len(self.given.held) if validation is None else -len(validation)
        labels = self.net.labels_
        columns = self.net.n_features_in_
        return (len(self.given.trained), n_validation, columns, labels.dtype.str, tuple(labels.tolist()))


def pack_rows(members: Sequence[Member], X: Tensor, codes: Tensor) -> Rows:
    """Return the rows of a pack on the training device.

    Parameters
    ----------
    members : sequence of K Member
    X : torch.Tensor of shape (N, ...)
        All rows, as a tensor on the device.
    codes : torch.Tensor of shape (N,), int64
        Their class codes.
    """
    first = members[0]
    device, dtype = X.device, first.net._floating_dtype()
    train = torch.from_numpy(np.stack([m.trained for m in members])).to(device)
    validation = None
    if first.given.validation is not None:
        given = [m.given.validation for m in members if m.given.validation is not None]
        if len({m.table for m in members}) == 1:
            x = torch.as_tensor(cast_like(given[0].features, dtype)).to(device)
            validation = (x, torch.from_numpy(given[0].codes).to(device))
        else:
            x = torch.stack([torch.as_tensor(cast_like(rows.features, dtype)) for rows in given]).to(device)
            validation = (x, torch.from_numpy(np.stack([rows.codes for rows in given])).to(device))
    elif len(first.given.held):
        held = torch.from_numpy(np.stack([m.held for m in members])).to(device)
        validation = (take_rows(X, held), take_rows(codes, held))
    return Rows(
        x=X,
        targets=codes,
        train=train,
        validation=validation,
        multiplicity=_multiplicity(members, len(codes), dtype, device),
        class_counts=torch.as_tensor(
            np.stack([m.given.class_counts for m in members]), dtype=dtype, device=device
        ),
        n_given=len(codes),
        device=device,
        dtype=dtype,
        judged=judged_rows([m.judged for m in members if m.judged is not None], X, codes),
    )


def judged_rows(
    judged: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], X: Tensor, codes: Tensor
) -> Judged | None:
    """Return what members are judged on, filled up with rows of weight 0 where they have fewer than others.

    Parameters
    ----------
    judged : sequence of K pairs of ndarray
        Row numbers and weights; empty: None is returned.
    X, codes : torch.Tensor
        All rows, on the device.
    """
    if not judged:
        return None
    shape = (len(judged), max(len(rows) for rows, _ in judged))
    numbers, counts = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    for k, (rows, weights) in enumerate(judged):
        numbers[k, : len(rows)], counts[k, : len(rows)] = rows, weights
    where = torch.from_numpy(numbers).to(X.device)
    dtype = X.dtype if X.is_floating_point() else torch.get_default_dtype()
    return Judged(take_rows(X, where), take_rows(codes, where), torch.from_numpy(counts).to(X.device, dtype))


def _multiplicity(
    members: Sequence[Member], n_rows: int, dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    """Sample weights, of mean 1 over each member's training rows, (K, N)."""
    if members[0].given.labelled.weights is None:
        return None
    scaled = np.zeros((len(members), n_rows))
    for of_member, member in zip(scaled, members, strict=True):
        weights = member.given.labelled.weights
        assert weights is not None
        of_member[member.rows] = weights / weights[member.given.trained].mean()
    return torch.as_tensor(scaled, dtype=dtype, device=device)


def on_device(features: Tensor, net: ReweightedClassifier) -> Tensor:
    """Return all rows on the training device in the dtype of the networks."""
    tensor: Tensor = placed(features, net._floating_dtype(), torch.device(net.device))
    return tensor

"""From what a user passes to `fit` to rows on the training device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor

from skreweight import validation
from skreweight._guard import NonFiniteError
from skreweight._inputs import (
    encode,
    is_dataset,
    labels_of,
    learn_columns_of_dataset,
    n_rows_of,
    rows_of,
    stack_items,
    validation_rows_of,
)
from skreweight._net.persistence import Persistence
from skreweight._rows import FitRows, Labelled, place
from skreweight.validation import shown
from skreweight.weighting import get_weighting


class GivenRows(Persistence):
    """Checks, labels, class counts and the validation rows of one fit."""

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Undo what was learned if the block fails, unless new components were trained for an epoch by then."""
        before = dict(self.__dict__)
        try:
            yield
        except NonFiniteError:
            raise
        except BaseException:
            progress = self.__dict__.get("progress_")
            if progress is before.get("progress_") or progress is None or progress.epochs_done == 0:
                self.__dict__.clear()
                self.__dict__.update(before)
            raise

    def _labelled(
        self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, *, reset: bool, classes: Any = None
    ) -> tuple[Labelled, Labelled | None]:
        """What the user passed, checked; learns the columns and, where `reset`, the classes."""
        if is_dataset(X):
            features = X
            if reset:
                learn_columns_of_dataset(self, X)
        else:
            features = rows_of(self, X, reset=reset, allow_nd=self.module is not None)
        labels = labels_of(X, y)
        n_rows = n_rows_of(features)
        if len(labels) != n_rows:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: [{n_rows}, {len(labels)}]"
            )
        if reset and self.classes is None:
            found = np.unique(labels if classes is None else classes)
            if len(found) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs at least two classes, the data has one class: {shown(found[0])}."
                )
            self.classes_inferred_ = found
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
        given = Labelled(features, encode(labels, self.labels_), weights)
        return given, self._given_validation(features, X_val, y_val)

    def _given_validation(self, features: Any, X_val: Any, y_val: Any) -> Labelled | None:
        """Validation rows that are not carved from X, if the user gave any."""
        if (X_val is None) != (y_val is None):
            lacking, there = ("X_val", "y_val") if X_val is None else ("y_val", "X_val")
            raise ValueError(f"{there} was given without {lacking}: pass both, or neither.")
        data = self.validation_data
        if X_val is None and isinstance(data, tuple | list):
            if len(data) != 2:
                raise ValueError(
                    f"validation_data as a pair must be (X_val, y_val), got {len(data)} entries."
                )
            X_val, y_val = data
        if X_val is None:
            return None
        labels = labels_of(X_val, y_val)
        if is_dataset(X_val):
            x_val = stack_items(X_val, np.arange(len(labels)))
        else:
            x_val = validation_rows_of(self, X_val, allow_nd=self.module is not None)
        codes = encode(labels, self.labels_, "y_val")
        if n_rows_of(x_val) != len(codes):
            raise ValueError(f"X_val has {n_rows_of(x_val)} rows, y_val {len(codes)}: they must agree.")
        validation.check_given_codes(codes, self.labels_)
        if (
            isinstance(features, Tensor)
            and isinstance(x_val, Tensor)
            and features.dim() == 2
            and features.dtype in (torch.float16, torch.float32, torch.float64)
            and not features.is_cuda
        ):
            validation.warn_of_traps(features.numpy(), x_val.cpu().numpy())
        return Labelled(x_val, codes)

    def _learn_split(
        self, given: Labelled, given_validation: Labelled | None, *, every_class: bool = True
    ) -> NDArray[np.int64]:
        """Carve the validation rows where any are needed; learn ``validation_indices_`` and ``class_counts_``."""
        chosen = get_weighting(self.weighting, **self._weighting_overrides())
        held = np.empty(0, dtype=np.int64)
        if given_validation is None and (chosen.needs_validation or self.validation_data is not None):
            generator = np.random.RandomState(self.progress_.seed)
            held = validation.carve(
                self.validation_data, given.codes, self.labels_, given.candidates, generator
            )
        self.validation_indices_ = held if len(held) else None
        train = given.candidates
        if len(held) and not self.train_on_validation:
            train = np.setdiff1d(train, held, assume_unique=True)
        counts = given.class_counts(train, len(self.labels_))
        if given_validation is not None and self.train_on_validation:
            counts = counts + given_validation.class_counts(None, len(self.labels_))
        if every_class and given_validation is None and (counts == 0).any() and self.classes is None:
            label = self.labels_[int(np.argmin(counts))]
            raise ValueError(
                f"Class {shown(label)} has no row of positive sample_weight to train on: leave its rows out, or "
                "name all classes in the parameter classes."
            )
        self.class_counts_ = counts
        return held

    def _placed(self, given: Labelled, given_validation: Labelled | None, held: NDArray[np.int64]) -> FitRows:
        return place(
            given,
            held,
            given_validation,
            train_on_validation=self.train_on_validation,
            dtype=self._floating_dtype(),
            device=torch.device(self.device),
        )

"""What a trained net answers: outputs, probabilities, labels, its history."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetClassifier
from skorch.utils import to_tensor
from torch import Tensor

from skreweight._net import predict
from skreweight._net.explain import FAILURES, explained
from skreweight._net.indices import rows_for
from skreweight._rows.batches import TensorBatches
from skreweight._rows.check import Columns, cast_like, is_dataset, n_given, n_rows_of
from skreweight._rows.place import cast_by_batch

#: Rows that go through the network at once in prediction, or the training batch where that is larger, unless
#: iterator_valid__batch_size says another number.
PREDICTION_ROWS = 1024


def rows_at_once(net: NeuralNetClassifier, default: int) -> int:
    """Return ``iterator_valid__batch_size``, where −1 stands for all rows, or the default where it is not set."""
    size = net.get_params_for("iterator_valid").get("batch_size")
    return default if size is None else sys.maxsize if size == -1 else int(size)


class PredictingNet(NeuralNetClassifier):
    """The answering half of a net."""

    def _columns(self) -> Columns:
        """What is known of the columns of X."""
        known = self.__dict__
        return Columns(known.get("n_features_in_"), known.get("feature_names_in_"))

    def _floating_dtype(self) -> torch.dtype:
        floating = (p.dtype for p in self.module_.parameters() if p.is_floating_point())
        return next(floating, torch.float32)

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self.initialized_)

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """Yield the module's outputs batch by batch, as skorch does; rows in memory need no DataLoader.

        Parameters
        ----------
        X : array-like, torch.Tensor, mapping of arrays, or torch Dataset
            Rows, as `predict` takes them.
        training : bool, default=False
            Whether the module is in training mode and the outputs carry gradients.
        device : str, default="cpu"
            Where the outputs are put.
        """
        self.check_is_fitted()
        if is_dataset(X):
            yield from super().forward_iter(X, training=training, device=device)
            return
        x = rows_for(self, X)
        dtype = self._floating_dtype()
        by_batch = cast_by_batch(x, dtype)
        if not by_batch:
            x = cast_like(x, dtype)
        dummy = torch.zeros(n_rows_of(x), dtype=torch.int64, device=self.device)
        size = rows_at_once(self, max(PREDICTION_ROWS, self.batch_size))
        self._set_training(training)
        options: dict[str, Any] = {"batch_size": size, "shuffle": False, "dtype": dtype if by_batch else None}
        for batch in TensorBatches(x, dummy, None, torch.device(self.device), **options):
            with torch.set_grad_enabled(training):
                outputs = self._inferred(batch.x)
            yield tuple(o.to(device) for o in outputs) if isinstance(outputs, tuple) else outputs.to(device)

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return a loader of a Dataset; without ``iterator_train`` that of predictions serves for both.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
        training : bool, default=False
            Whether ``iterator_train`` makes it.
        """
        return super().get_iterator(dataset, training=training and self.iterator_train is not None)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the module's outputs for one batch, cast to the dtype of its parameters.

        Parameters
        ----------
        x : torch.Tensor, array, or mapping of them
            One batch.
        **fit_params
            Further arguments of the module.
        """
        return super().infer(
            cast_like(to_tensor(x, device=self.device), self._floating_dtype()), **fit_params
        )

    def _inferred(self, x: Any) -> Any:
        try:
            return self.infer(x)
        except FAILURES as error:
            first = {name: part[:2] for name, part in x.items()} if isinstance(x, Mapping) else x[:2]
            clear = explained(error, self.module_, self.criterion_, cast_like(first, self._floating_dtype()))
            if clear is None:
                raise
            raise clear from error

    def _outputs(self, X: Any) -> Tensor:
        self.check_is_fitted()
        parts = (out[0] if isinstance(out, tuple | list) else out for out in self.forward_iter(X))
        outputs = torch.cat(list(parts)) if is_dataset(X) else predict.gathered(parts, lambda: n_given(X))
        predict.check_finite(outputs)
        return outputs

    def codes_of(self, outputs: Tensor) -> Tensor:
        """Return the predicted class codes of outputs, shape (B,): of ``predict_nonlinearity``, where that is set.

        Parameters
        ----------
        outputs : torch.Tensor of shape (B, C) or (B,)
            Of the module.
        """
        if not callable(self.predict_nonlinearity):
            return predict.class_codes(outputs)
        return predict.transformed(outputs, self.predict_nonlinearity).argmax(dim=1)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Columns in the order of ``classes_``.

        Raises
        ------
        ValueError
            For a row whose outputs are not finite; it is named.
        """
        outputs = self._outputs(X)
        if callable(self.predict_nonlinearity):
            return predict.transformed(outputs, self.predict_nonlinearity).numpy()
        return (
            outputs if self.predict_nonlinearity is None else predict.probabilities(outputs, self)
        ).numpy()

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each row.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        codes = self.codes_of(self._outputs(X)).numpy()
        return self.classes_[codes]

    def decision_function(self, X: Any) -> NDArray[Any]:
        """Return the confidence in each class, as scikit-learn's linear classifiers do.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset

        Returns
        -------
        ndarray of shape (n_rows,) for two classes, else (n_rows, n_classes)
            Two classes: the log-odds of the second, above 0 where it is predicted. More: the logits.
        """
        return predict.decision(self._outputs(X), self.criterion_).numpy()

    def history_frame(self) -> pd.DataFrame:
        """Return the training history as a DataFrame, one row per epoch.

        Examples
        --------
        >>> from sklearn.datasets import load_breast_cancer
        >>> from skreweight import ReweightedClassifier
        >>> X, y = load_breast_cancer(return_X_y=True)
        >>> clf = ReweightedClassifier(weighting="absgd", warmup_epochs=1, max_epochs=1).fit(X / X.max(0), y)
        >>> clf.history_frame()["stage"].tolist()
        [1, 2]
        """
        check_is_fitted(self)
        rows = [{k: v for k, v in row.items() if k != "batches"} for row in self.history_]
        return pd.DataFrame(rows).set_index("epoch") if rows else pd.DataFrame()

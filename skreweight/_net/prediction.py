"""Labels, probabilities and scores out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from skorch.utils import _infer_predict_nonlinearity, to_tensor
from torch import Tensor, nn

from skreweight._inputs import (
    cast_like,
    is_dataset,
    n_rows_of,
    rows_of,
)
from skreweight._net.training import Training
from skreweight._rows import cast_by_batch
from skreweight.batches import TensorBatches

#: Rows that go through the network at once in prediction; a multiple of the training batch where that is larger.
PREDICTION_ROWS = 1024


class Prediction(Training):
    """The predicting half of the estimator."""

    def __sklearn_is_fitted__(self) -> bool:
        return bool(self.initialized_)

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """Yield the module's outputs batch by batch, as skorch does; rows in memory need no DataLoader."""
        if is_dataset(X) or training:
            yield from super().forward_iter(X, training=training, device=device)
            return
        x = rows_of(self, X, reset=False, allow_nd=self.module is not None)
        dtype = self._floating_dtype()
        by_batch = cast_by_batch(x, dtype)
        if not by_batch:
            x = cast_like(x, dtype)
        n_rows = n_rows_of(x)
        dummy = torch.zeros(n_rows, dtype=torch.int64, device=self.device)
        size = max(PREDICTION_ROWS, self.get_params_for("iterator_valid").get("batch_size", self.batch_size))
        self._set_training(False)
        options = {"batch_size": size, "shuffle": False, "dtype": dtype if by_batch else None}
        for batch in TensorBatches(x, dummy, None, torch.device(self.device), **options):
            with torch.no_grad():
                outputs = self.infer(batch.x)
            yield tuple(o.to(device) for o in outputs) if isinstance(outputs, tuple) else outputs.to(device)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the module's outputs for one batch, cast to the dtype of its parameters."""
        return super().infer(
            cast_like(to_tensor(x, device=self.device), self._floating_dtype()), **fit_params
        )

    def _outputs(self, X: Any) -> Tensor:
        check_is_fitted(self)
        parts = [out[0] if isinstance(out, tuple | list) else out for out in self.forward_iter(X)]
        return torch.cat(parts)

    def _probabilities(self, outputs: Tensor) -> Tensor:
        """Class probabilities, as the criterion understands the module's outputs."""
        criterion = getattr(self.criterion_, "_orig_mod", self.criterion_)
        if self.predict_nonlinearity != "auto":
            return self._get_predict_nonlinearity()(outputs)
        if callable(probabilities := getattr(criterion, "probabilities", None)):
            return probabilities(outputs)
        if isinstance(criterion, nn.NLLLoss):
            return outputs
        if _has_one_logit(outputs):
            return _infer_predict_nonlinearity(self)(outputs.reshape(-1))
        return torch.softmax(outputs, dim=1)

    def codes_of(self, outputs: Tensor) -> Tensor:
        """Return the predicted class codes of outputs, shape (B,)."""
        if _has_one_logit(outputs):
            return (outputs.reshape(-1) > 0).long()
        return outputs.argmax(dim=1)

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features), torch.Tensor, mapping of arrays, or torch Dataset

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            Columns in the order of ``classes_``.
        """
        return self._probabilities(self._outputs(X)).numpy()

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
        outputs = self._outputs(X)
        if _has_one_logit(outputs):
            return outputs.reshape(-1).numpy()
        if isinstance(getattr(self.criterion_, "_orig_mod", self.criterion_), nn.NLLLoss):
            outputs = outputs.log()
        return (outputs[:, 1] - outputs[:, 0] if outputs.shape[1] == 2 else outputs).numpy()

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


def _has_one_logit(outputs: Tensor) -> bool:
    return outputs.dim() == 1 or outputs.shape[1] == 1

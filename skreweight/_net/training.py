"""One fit: both stages, and what is learned besides the module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch.dataset import Dataset as SkorchDataset
from torch import Tensor

from skreweight._guard import FiniteGuard, NonFiniteError
from skreweight._inputs import is_dataset
from skreweight._net.given import GivenRows
from skreweight._rows import FitRows
from skreweight._schedules import schedules_going_on
from skreweight._stages import Stages
from skreweight._training import Trainer
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model
from skreweight.core.validation_loss import ValidationLoss
from skreweight.losses import effective_number_weights
from skreweight.validation import shown
from skreweight.weighting import NewState


class Training(GivenRows):
    """Puts losses, weighting and optimiser together and runs the stages."""

    def _train(self, rows: FitRows, X: Any, y: Any) -> None:
        device, dtype = rows.device, self._floating_dtype()
        class_weight = (
            self._class_weight_vector().to(device, dtype) if self.class_weight is not None else None
        )
        plain_loss = ExampleLoss(self.criterion_)
        weighted_loss = ExampleLoss(self.criterion_, class_weight)
        stage_one_loss = plain_loss if self.defer_class_weight else weighted_loss
        self._start_weighting(rows, dtype)
        model = Model(self.module_)
        validation_loss = self._validation_loss(rows, plain_loss, model)
        trainer = Trainer(
            model,
            self.optimizer_,
            weighted_loss,
            validation=validation_loss,
            multiplicity=rows.multiplicity,
            guard=FiniteGuard(self.module_, self.optimizer_, self.on_nonfinite),
            autocast=None if self.autocast is None else torch.bfloat16,
        )
        progress = self.progress_
        datasets = self._datasets_for_callbacks(rows)
        with self._answering_in_codes():
            with schedules_going_on(self):
                self.notify("on_train_begin", X=X, y=y)  # LoadInitState may load a checkpoint here
            n_epochs = progress.epochs_to_go(self.warmup_epochs, self.max_epochs)
            progress.go_on(self.module_)
            stages = Stages(self, rows, trainer, (stage_one_loss, weighted_loss), plain_loss)
            try:
                with progress.generators(device):
                    stages.run(n_epochs, datasets)
            except KeyboardInterrupt:
                if self.history_ and "stage" not in self.history_[-1]:
                    del self.history_[-1]  # the epoch was not finished: it begins again with partial_fit
            except NonFiniteError as error:
                error.args = (self._explained(error, rows),)
                raise
            finally:
                trainer.guard.release()
                self.module_.eval()
                self._learn_weights(rows, stages.last_weights)
            if self.keep_best:
                progress.settle(self.module_)
            self.notify("on_train_end", X=X, y=y)

    def _start_weighting(self, rows: FitRows, dtype: torch.dtype) -> None:
        """Allocate the weighting's state, unless it has one for as many rows."""
        weighting, n_rows = self.weighting_, len(rows.targets)
        stored = weighting.stored_weights if hasattr(weighting, "state_") else None
        if not hasattr(weighting, "state_") or (stored is not None and len(stored) != n_rows):
            counts = torch.as_tensor(self.class_counts_, dtype=dtype, device=rows.device)
            weighting.start(NewState(n_rows, counts))
        weighting.load_state_dict({k: v.to(rows.device) for k, v in weighting.state_dict().items()})

    def _validation_loss(self, rows: FitRows, loss: ExampleLoss, model: Model) -> ValidationLoss | None:
        if rows.x_val is None or rows.val_targets is None:
            return None
        penalty = {k: v for k, v in self.weighting_.get_params().items() if k in ("lp_norm", "lp_coef")}
        return ValidationLoss(
            model,
            loss,
            rows.x_val,
            rows.val_targets,
            batch_size=self.validation_batch_size,
            **penalty,
        )

    def _class_weight_vector(self) -> Tensor:
        """C by class code."""
        counts, labels = self.class_counts_, self.labels_
        if self.class_weight == "balanced":
            present = counts > 0
            share = np.divide(counts.sum(), counts, out=np.zeros_like(counts), where=present)
            return torch.from_numpy(share / np.count_nonzero(present))
        if self.class_weight == "effective-number":
            return effective_number_weights(counts)
        unknown = [label for label in self.class_weight if label not in labels]
        if unknown:
            raise ValueError(
                f"class_weight names {unknown[0]!r}, which is none of the classes {shown(labels)}."
            )
        by_label = {label: float(w) for label, w in self.class_weight.items()}
        return torch.tensor([by_label.get(label, 1.0) for label in labels.tolist()], dtype=torch.float64)

    def _datasets_for_callbacks(self, rows: FitRows) -> dict[str, Any]:
        if is_dataset(rows.features):
            train: Any = rows.features
        else:
            train = SkorchDataset(rows.features, rows.targets)
        if rows.train is not None:
            train = torch.utils.data.Subset(train, rows.train.cpu().numpy())  # type: ignore[arg-type]
        valid = None if rows.x_val is None else SkorchDataset(rows.x_val, rows.val_targets)
        return {"dataset_train": train, "dataset_valid": valid}

    def _learn_weights(self, rows: FitRows, last_weights: Tensor | None) -> None:
        stored = self.weighting_.stored_weights
        weights = stored if stored is not None else last_weights
        if weights is None:  # stage 2 did not touch the training rows (two-phase), or never came
            on_validation = self.weighting_.stage_two_rows == "validation"
            plain = torch.ones(len(rows.targets)) if rows.multiplicity is None else rows.multiplicity
            weights = plain * 0.0 if on_validation else plain
        figures = weights.detach().cpu().double().numpy().copy()
        if rows.train is not None:
            left_out = np.ones(len(figures), dtype=bool)
            left_out[rows.train.cpu().numpy()] = False
            figures[left_out] = np.nan
        self.example_weights_ = figures[: rows.n_given]

    def _explained(self, error: NonFiniteError, rows: FitRows) -> str:
        largest = float(rows.features.abs().max()) if isinstance(rows.features, Tensor) else 0.0
        cause = (
            f"features reach {largest:.3g}: scale them (StandardScaler, QuantileTransformer) before the network"
            if largest > 1e3
            else f"the learning rate lr={self.lr} is too large: lower it, or use skorch's GradientNormClipping"
        )
        return (
            f"Training stopped in epoch {len(self.history_)}, batch {error.batch}: the loss or its gradient is not "
            f"finite. Likely cause: {cause}. The parameters of the last good step are kept; on_nonfinite='skip' "
            "would leave such batches out."
        )

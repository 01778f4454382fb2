"""Fits that are the same in one process and in several: each case by its name."""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_classification
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler
from torch import nn
from torch.utils.data import Dataset

from skreweight import ReweightedClassifier
from skreweight.weighting import WEIGHTINGS, Weighting

N_ROWS = 131  # 107 trained on, or fewer: the last of the batches of 32 is short, and may leave a process without a row


class Net(nn.Module):
    """A network that is no chain: its products go through autograd."""

    def __init__(self, n_features: int = 6, n_classes: int = 3, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.first = nn.Linear(n_features, 8, dtype=dtype)
        self.scale = nn.Parameter(torch.ones(8, dtype=dtype))
        self.second = nn.Linear(8, n_classes, dtype=dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x)) * self.scale)


class Chain(nn.Sequential):
    """A network whose products have closed forms."""

    def __init__(self, n_features: int = 6, n_classes: int = 3, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(
            nn.Linear(n_features, 8, dtype=dtype), nn.Tanh(), nn.Linear(8, n_classes, dtype=dtype)
        )


class Items(Dataset):
    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = torch.as_tensor(X), y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, k: int) -> Any:
        return self.X[k], self.y[k]


class SmallLoss(Weighting):
    """A method of a user's: it compares the rows of the batch, and knows nothing of processes."""

    def weigh(self, step: Any) -> Any:
        smaller = (step.losses.unsqueeze(-1) > step.losses.unsqueeze(-2)).sum(-1)
        return step.uniform() * (smaller < 0.9 * step.size)


def rows(dtype: str = "float64") -> tuple[Any, Any, Any]:
    X, y = make_classification(
        N_ROWS, 6, n_informative=5, n_redundant=0, n_classes=3, weights=[0.6, 0.3], random_state=1
    )
    weights = np.random.RandomState(0).uniform(0.2, 2, len(y))
    weights[3] = 0
    return X.astype(dtype), y, weights


def _plain(name: str) -> dict[str, Any]:
    return {"weighting": name}


def _other(**changed: Any) -> dict[str, Any]:
    return changed


#: What each case changes of the estimator below; the key "fit" is for the call.
CASES: dict[str, dict[str, Any]] = {
    **{name: _plain(name) for name in WEIGHTINGS},
    **{f"{name} weighted": {"weighting": name, "weights": True} for name in WEIGHTINGS},
    **{f"{name} general": {"weighting": name, "module": Net, "weights": True} for name in WEIGHTINGS},
    **{f"{name} float32": {"weighting": name, "dtype": "float32"} for name in WEIGHTINGS},
    "own": _other(weighting=SmallLoss, weights=True),
    "adam": _other(weighting="ours", optimizer=torch.optim.Adam, lr=0.01),
    "hu adam step": _other(
        weighting="hu", weighting__virtual_step="optimizer", optimizer=torch.optim.Adam, weights=True
    ),
    "hu sgd step": _other(weighting="hu", weighting__virtual_step="optimizer", weights=True),
    "hu softmax": _other(weighting="hu", weighting__normalization="softmax", weighting__lp_coef=1e-3),
    "ours hessian": _other(weighting="ours", weighting__curvature="hessian", weights=True),
    "ours Monte Carlo": _other(weighting="ours", weighting__curvature="ggn-mc"),
    "ours fisher general": _other(weighting="ours", weighting__curvature="fisher", module=Net),
    "ours constraint": _other(weighting="ours", weighting__n_constraint_steps=3, diagnostics=True),
    "drawn validation": _other(weighting="ours", validation_batch_size=5),
    "many validation rows": _other(weighting="hu", validation_data=8, weighting__lp_coef=1e-3, shared_from=2),
    "many validation rows general": _other(
        weighting="ours", module=Net, validation_data=8, shared_from=2, validation_batch_size=13
    ),
    "many validation rows drawn": _other(
        weighting="ours", validation_data=8, shared_from=2, validation_batch_size=13
    ),
    "best by step": _other(weighting="hu", keep_best="step"),
    "validation rows train": _other(weighting="ren", train_on_validation=True),
    "balanced": _other(weighting="absgd", sampling="balanced", weights=True),
    "class weights": _other(weighting="meta-weight-net", class_weight="balanced"),
    "through the loss": _other(
        weighting="meta-weight-net", weighting__through_loss=True, weighting__normalize=False, weights=True
    ),
    "one row left": _other(weighting="ours", batch_size=10, validation_data=10, weights=True),
    "tiny batches": _other(weighting="absgd", batch_size=2, max_epochs=1, lr=0.01),
    "dataset": _other(weighting="ours", dataset=True),
    "loader": _other(weighting="absgd", iterator_train=torch.utils.data.DataLoader, weights=True),
    "line search": _other(
        weighting="none",
        optimizer=torch.optim.LBFGS,
        optimizer__max_iter=2,
        optimizer__line_search_fn="strong_wolfe",
    ),
    "skips": _other(weighting="none", optimizer=torch.optim.Adam, on_nonfinite="skip", broken_row=True),
    "callbacks": _other(
        weighting="none",
        callbacks=[
            GradientNormClipping(0.5),
            LRScheduler("StepLR", step_size=1, gamma=0.5),
            EpochScoring("balanced_accuracy", lower_is_better=False, name="score"),
            EarlyStopping(monitor="valid_loss", patience=1, threshold=10.0),
        ],
        validation_data=4,
        max_epochs=5,
    ),
}


def run(name: str) -> dict[str, Any]:
    """Fit a case, in whatever processes there are, and return what came of it."""
    case = dict(CASES[name])
    X, y, weights = rows(case.pop("dtype", "float64"))
    if case.pop("broken_row", False):
        X[7, 2] = 1e200  # finite: the loss of its batches is not
    given: Any = Items(X, y) if case.pop("dataset", False) else X
    weights = weights if case.pop("weights", False) else None
    shared_from = case.pop("shared_from", None)
    options = {
        "optimizer": torch.optim.SGD,
        "lr": 0.1,
        "module": Chain,
        "warmup_epochs": 1,
        "max_epochs": 2,
        **case,
    }
    if options["optimizer"] is torch.optim.SGD:
        options["optimizer__momentum"] = 0.9
    net = ReweightedClassifier(
        batch_size=options.pop("batch_size", 32),
        module__dtype=torch.from_numpy(X[:1]).dtype,
        device="cpu",
        random_state=0,
        **options,
    )
    if shared_from is not None:
        from skreweight._training import shared

        shared.SHARED_FROM = shared_from
    try:
        net.fit(given, y, sample_weight=weights)
    finally:
        if shared_from is not None:
            shared.SHARED_FROM = 256
    return {
        "parameters": np.concatenate([p.detach().numpy().ravel() for p in net.module_.parameters()]),
        "weights": net.example_weights_,
        "probabilities": net.predict_proba(X),
        "state": {k: v.numpy() for k, v in net.weighting_.state_.items()},
        "history": [
            {k: v for k, v in row.items() if isinstance(v, int | float) and k != "dur"}
            for row in net.history_
        ],
        "generator": net.progress_.random_state["cpu"].numpy(),
    }

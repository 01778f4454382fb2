"""Hundreds of bad inputs: what becomes of each, and of the estimator that was given it.

``python -m tests.bad_inputs`` counts those that end with another kind of error than ValueError or TypeError, those that
are accepted, and those that change a fitted estimator. tests/test_bad_inputs.py bounds the three numbers.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import nn

from skreweight import ReweightedClassifier

R = np.random.RandomState(0)
Y = np.arange(60) % 3 // 2  # 40 rows of class 0, 20 of class 1
X = (R.randn(60, 4) + Y[:, None]).astype(np.float32)
SMALL: dict[str, Any] = {
    "weighting": "none",
    "module__hidden": (3,),
    "warmup_epochs": 1,
    "max_epochs": 1,
    "random_state": 0,
    "device": "cpu",
}
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class BadInput:
    """One thing that a user may do, and should be told not to."""

    name: str
    parameters: dict[str, Any]
    do: Callable[[ReweightedClassifier], Any]


#: Values that no parameter of the kind takes.
NO_COUNT = [-1, 1.5, NAN, "3", None, [1], {}]
NO_RATE = [-1.0, 0.0, NAN, "0.1", None, [0.1], 1j]
NO_FLAG = [2, "yes", None, 0.5]
NO_NAME = ["nothing", 3, 1.5, ["hu"], {}]
PARAMETERS: dict[str, list[Any]] = {
    "warmup_epochs": NO_COUNT,
    "max_epochs": NO_COUNT,
    "batch_size": [0, -2, 1.5, NAN, "3", None, [1]],
    "validation_batch_size": [0, -1, 1.5, NAN, "3", [1]],
    "lr": NO_RATE,
    "weighting": [*NO_NAME, None, nn.Linear, object(), nn.Linear(1, 1), ""],
    "validation_data": [
        0,
        -1,
        1.0,
        1.5,
        -0.5,
        NAN,
        INF,
        "10",
        {},
        True,
        object(),
        (X,),
        (X, Y, Y),
        [X],
        40,
        20,
        1000,
    ],
    "class_weight": [
        "nothing",
        3,
        1.5,
        [1, 2],
        {2: 1.0},
        {0: -1.0},
        {0: 0.0},
        {0: NAN},
        {0: INF},
        {0: "1"},
        {0: None},
    ],
    "sampling": ["nothing", -0.1, 1.1, NAN, [0.5], {}],
    "keep_best": ["never", 3, None, 0.5, []],
    "on_nonfinite": ["ignore", 3, None, True],
    "autocast": ["float16", "fp8", 16, True, torch.bfloat16],
    "defer_class_weight": NO_FLAG,
    "train_on_validation": NO_FLAG,
    "restart_stage_two": NO_FLAG,
    "diagnostics": NO_FLAG,
    "defer_sampling": [*NO_FLAG, True],
    "warm_start": NO_FLAG,
    "random_state": [-1, 1.5, "0", [0], {}, NAN],
    "verbose": ["loud", -1, [1], {}],
    "device": ["tpu", "gpu", "meta", "cpu:x", 3.5, [], {}],
    "callbacks": [
        "all",
        3,
        [3],
        ["EarlyStopping"],
        {"a": 1},
        [("a", 3)],
        [None],
        [object()],
        [("a", "b", "c")],
    ],
    "classes": [[], [0], [0, 0], [1, 0], [0, 1, 1], [[0, 1]], [2, 3], ["0", "1"], "ab", 3],
    "criterion": [
        "CrossEntropyLoss",
        3,
        nn.MSELoss,
        nn.BCELoss,
        nn.L1Loss,
        nn.KLDivLoss,
        nn.MSELoss(),
        nn.functional.cross_entropy,
        torch.optim.Adam,
        object(),
        nn.BCEWithLogitsLoss,
        nn.NLLLoss,
    ],
    "optimizer": ["Adam", 3, None, object(), nn.Linear, torch.optim.Adam([torch.zeros(1)]), []],
    "module": [
        "MLP",
        3,
        object(),
        nn.Linear,
        nn.Linear(9, 2),
        nn.Linear(4, 1),
        nn.Linear(4, 3),
        nn.Identity,
        [],
        len,
    ],
    "train_split": [0.2, "ValidSplit", 5, object()],
    "dataset": ["Dataset", 3, torch.utils.data.TensorDataset],
    "predict_nonlinearity": ["softmax", 3, []],
    "iterator_train": ["DataLoader", 3, []],
    "classifier": [3, None, "nowhere"],
    "stage_two_trainable": [3, "", "nowhere", [], ["nowhere"], [3]],
    "module__hidden": [0, -1, "8", [0], [1.5], None, [None]],
    "module__dropout": [-0.1, 1.0, 2, "a", NAN],
    "module__activation": ["nothing", 3, None, ["relu", "relu"]],
    "module__n_features": [3, 0, -1, "4"],
    "module__n_classes": [1, 3, 0, "2"],
    "module__nothing": [1],
    "criterion__weight": [torch.ones(5), torch.ones(2, 2), [1, 2], "a", 3],
    "criterion__nothing": [1],
    "criterion__reduction": ["mean", "sum", "nothing"],
    "criterion__label_smoothing": [-1.0, 2.0, "a"],
    "optimizer__nothing": [1],
    "optimizer__betas": [(2.0, 0.9), 3, "a"],
    "optimizer__weight_decay": [-1.0, "a"],
    "weighting__nothing": [1],
    "iterator_train__nothing": [1],
    "iterator_train__batch_sampler": [[], [[]], [[99]], [[-1]], 3],
    "iterator_train__num_workers": [2],
    "hidden": [1],
    "lambda_": [1],
    "class_weights": [{}],
}
OF_WEIGHTINGS: dict[str, dict[str, list[Any]]] = {
    "absgd": {"lam": [0, NAN, "1", [1]], "decay": [-1.0, 2.0, NAN, "a"]},
    "hu": {
        "step_size": [-1.0, NAN, "1", [1]],
        "decay": [-1.0, NAN, "1"],
        "floor": [-1.0, NAN],
        "normalization": ["nothing", 3],
    },
    "ours": {
        "n_constraint_steps": [-1, 1.5, "1", NAN],
        "curvature": ["nothing", 3, None],
        "damping": [-1.0, NAN, "1"],
        "polyak": [0.0, -1.0, NAN, "1", None],
        "lp_norm": [0, -1, NAN, "2"],
        "lp_coef": [-1.0, NAN, "1"],
    },
    "proportion": {"scheme": ["nothing", 3, None], "beta": [1.0, -1.0, NAN, "a"]},
    "term": {"tilt": ["a", NAN], "t": ["a"]},
    "meta": {"step_size": [-1.0, "a"], "nothing": [1]},
}

EMPTY = np.empty((0, 4), dtype=np.float32)


def _with(value: float) -> np.ndarray:
    out = X.copy()
    out[5, 1] = value
    return out


ROWS: dict[str, Any] = {
    "None": None,
    "a number": 3.0,
    "text": "abc",
    "one dimension": X[:, 0],
    "three dimensions": X.reshape(60, 2, 2),
    "no rows": EMPTY,
    "no columns": np.empty((60, 0)),
    "NaN": _with(NAN),
    "infinity": _with(INF),
    "too large for float32": X.astype(np.float64) * 1e60,
    "complex": X + 1j,
    "objects": np.array([[object()] * 4] * 60),
    "strings": X.astype(str).astype(object) + "x",
    "moments in time": np.arange(240).reshape(60, 4).astype("datetime64[s]"),
    "sparse": sparse.csr_matrix(X),
    "sparse coo": sparse.coo_array(X),
    "ragged": [[1.0, 2.0], [1.0]] * 30,
    "a set": {1, 2, 3},
    "empty mapping": {},
    "a function": len,
    "frame of text": pd.DataFrame({"a": list("abcdef") * 10, "b": np.arange(60)}),
    "frame of dates": pd.DataFrame({"a": pd.date_range("2024", periods=60)}),
    "frame with gaps": pd.DataFrame(_with(NAN)),
    "tensor of one dimension": torch.tensor(X[:, 0]),
    "tensor of three dimensions": torch.tensor(X).reshape(60, 2, 2),
    "tensor with NaN": torch.tensor(_with(NAN)),
    "sparse tensor": torch.tensor(X).to_sparse(),
    "complex tensor": torch.tensor(X + 1j),
    "tensor without rows": torch.tensor(EMPTY),
    "meta tensor": torch.empty(60, 4, device="meta"),
    "empty Dataset": torch.utils.data.TensorDataset(torch.tensor(EMPTY), torch.tensor(Y[:0])),
    "Dataset with NaN": torch.utils.data.TensorDataset(torch.tensor(_with(NAN)), torch.tensor(Y)),
    "Dataset of threes": torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(X), torch.tensor(Y)),
}
OTHER_COLUMNS = {
    "a column less": X[:, :3],
    "a column more": np.c_[X, X[:, 0]],
    "tensor, a column less": torch.tensor(X[:, :3]),
}
LABELS: dict[str, Any] = {
    "None": None,
    "a number": 3,
    "too few": Y[:-1],
    "too many": np.r_[Y, 0],
    "none": Y[:0],
    "one class": np.zeros(60, dtype=int),
    "NaN": np.where(Y == 1, NAN, 0.0),
    "gaps": np.where(Y == 1, "a", None),
    "infinity": np.where(Y == 1, INF, 0.0),
    "continuous": R.randn(60),
    "two columns": np.c_[Y, Y],
    "one-hot": np.eye(2)[Y],
    "text among numbers": np.array(["a" if v else 1 for v in Y], dtype=object),
    "complex": Y + 1j,
    "lists": [[0], [1, 2]] * 30,
    "objects": np.array([object() for _ in Y]),
    "a tensor too short": torch.tensor(Y[:-1]),
    "text": "abc",
}
WEIGHTS: dict[str, Any] = {
    "too few": np.ones(59),
    "negative": np.where(Y == 1, -1.0, 1.0),
    "NaN": np.where(Y == 1, NAN, 1.0),
    "infinity": np.where(Y == 1, INF, 1.0),
    "all zero": np.zeros(60),
    "a class of zeros": np.where(Y == 1, 0.0, 1.0),
    "two columns": np.ones((60, 2)),
    "text": np.array(["a"] * 60),
    "objects": np.array([object()] * 60),
}
UNKNOWN = [
    "eval_set",
    "validation_data",
    "epochs_",
    "callbacks",
    "groups",
    "early_stopping_rounds",
    "verbose",
    "classes_",
]


def bad_inputs() -> Iterator[BadInput]:
    """Yield all of them."""

    def fitting(net: ReweightedClassifier) -> Any:
        return net.fit(X, Y)

    for name, values in PARAMETERS.items():
        for value in values:
            yield BadInput(f"{name}={value!r:.60}", {name: value}, fitting)
    for weighting, fields in OF_WEIGHTINGS.items():
        for name, values in fields.items():
            for value in values:
                given = {"weighting": weighting, f"weighting__{name}": value}
                yield BadInput(f"{weighting}: {name}={value!r}", given, fitting)
    for (name, rows), method in itertools.product(ROWS.items(), ["fit", "partial_fit"]):
        yield BadInput(f"{method}, X: {name}", {}, lambda net, x=rows, m=method: getattr(net, m)(x, Y))
    for (name, rows), method in itertools.product(
        {**ROWS, **OTHER_COLUMNS}.items(), ["predict", "predict_proba"]
    ):
        if "Dataset of threes" not in name:
            yield BadInput(f"{method}, X: {name}", {}, lambda net, x=rows, m=method: getattr(net, m)(x))
    for name, rows in OTHER_COLUMNS.items():
        yield BadInput(f"partial_fit, X: {name}", {}, lambda net, x=rows: net.partial_fit(x, Y))
        yield BadInput(f"decision_function, X: {name}", {}, lambda net, x=rows: net.decision_function(x))
    for (name, labels), method in itertools.product(LABELS.items(), ["fit", "partial_fit"]):
        if (name, method) != ("one class", "partial_fit"):  # which may come later
            yield BadInput(f"{method}, y: {name}", {}, lambda net, y=labels, m=method: getattr(net, m)(X, y))
    for (name, weights), method in itertools.product(WEIGHTS.items(), ["fit", "partial_fit"]):
        if (name, method) == ("a class of zeros", "partial_fit"):  # the class may come later
            continue
        yield BadInput(
            f"{method}, sample_weight: {name}",
            {},
            lambda net, w=weights, m=method: getattr(net, m)(X, Y, sample_weight=w),
        )
    held = np.r_[0:9]
    for name, rows in {**ROWS, **OTHER_COLUMNS}.items():
        yield BadInput(
            f"X_val: {name}", {"weighting": "hu"}, lambda net, x=rows: net.fit(X, Y, X_val=x, y_val=Y)
        )
    for name, labels in LABELS.items():
        yield BadInput(
            f"y_val: {name}",
            {"weighting": "hu"},
            lambda net, y=labels: net.fit(X, Y, X_val=X.copy(), y_val=y),
        )
    yield BadInput("y_val of another class", {}, lambda net: net.fit(X, Y, X_val=X[held], y_val=Y[held] + 5))
    for name, method in itertools.product(UNKNOWN, ["fit", "partial_fit"]):
        yield BadInput(
            f"{method}({name}=)", {}, lambda net, n=name, m=method: getattr(net, m)(X, Y, **{n: 1})
        )
    for epochs in [-1, 1.5, "2", NAN, True]:
        yield BadInput(
            f"partial_fit(epochs={epochs!r})", {}, lambda net, e=epochs: net.partial_fit(X, Y, epochs=e)
        )
    for labels in [[0], [5, 6], [0, 1, 2], "ab"]:
        yield BadInput(
            f"partial_fit(classes={labels})", {}, lambda net, c=labels: net.partial_fit(X, Y, classes=c)
        )
    for name in ["nothing", "weighting__nothing", "lambda", "Module__hidden", "weightings__lam"]:
        yield BadInput(f"set_params({name}=)", {}, lambda net, n=name: net.set_params(**{n: 1}))
    for name in ["f_params", "f_optimizer", "f_history", "f_weighting", "f_criterion", "f_nothing"]:
        yield BadInput(f"load_params({name}=<a folder>)", {}, lambda net, n=name: net.load_params(**{n: "."}))
        yield BadInput(
            f"load_params({name}=<this file>)", {}, lambda net, n=name: net.load_params(**{n: __file__})
        )


KNOWN = ReweightedClassifier().get_params(deep=False)
#: Kinds of error that are an answer: those of Python and scikit-learn for bad values, and of the system for files.
ANSWERS = (ValueError, TypeError, OSError)


def outcome(case: BadInput) -> tuple[str, str, bool]:
    """Return "refused", "accepted" or the kind of another error, the message, and whether the estimator was changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = ReweightedClassifier(**SMALL).fit(X, Y)
        proba, classes = net.predict_proba(X), net.classes_
        try:
            for name, value in case.parameters.items():  # as a user who sets attributes, so that fit is asked
                if name in KNOWN:
                    setattr(net, name, value)
                elif "__" in name:
                    setattr(net, name, value)
                    net._params_to_validate.add(name)
                else:
                    net.set_params(**{name: value})
            case.do(net)
            return "accepted", "", False
        except ANSWERS as error:
            kind, message = "refused", str(error)
        except Exception as error:
            kind, message = type(error).__name__, str(error)
        for name in case.parameters:
            if name in SMALL:
                setattr(net, name, SMALL[name])
            elif name in KNOWN:
                setattr(net, name, KNOWN[name])
            else:
                net.__dict__.pop(name, None)
        try:
            changed = not np.array_equal(net.predict_proba(X), proba) or not np.array_equal(
                net.classes_, classes
            )
        except Exception as error:
            changed, message = True, f"{message} THEN {error}"
        return kind, message, changed


def main() -> None:
    """Print the counts, and the cases behind them."""
    cases = list(bad_inputs())
    results = {case.name: outcome(case) for case in cases}
    other = {name: r for name, r in results.items() if r[0] not in ("refused", "accepted")}
    accepted = [name for name, r in results.items() if r[0] == "accepted"]
    changed = {name: r for name, r in results.items() if r[2]}
    print(f"{len(results)} bad inputs: {len(other)} with another kind of error, {len(accepted)} accepted, "
          f"{len(changed)} changed estimators")  # fmt: skip
    for name, (kind, message, _) in other.items():
        print(f"  other    {name}: {kind}: {message[:120]!r}")
    for name in accepted:
        print(f"  accepted {name}")
    for name, (kind, message, _) in changed.items():
        print(f"  changed  {name}: {kind}: {message[:120]!r}")


if __name__ == "__main__":
    main()

"""Parameters and inputs at random: a fit that predicts probabilities, or one clear sentence.

``SKREWEIGHT_FUZZ_SECONDS`` says for how long (120 by default), ``SKREWEIGHT_FUZZ_SEED`` where it begins.
"""

import math
import os
import re
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold
from skorch.callbacks import EarlyStopping, EpochScoring, GradientNormClipping, LRScheduler
from torch import nn

from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight._training.guard import NonFiniteError
from skreweight.losses import FocalLoss, LDAMLoss, LogitAdjustedLoss
from skreweight.weighting import WEIGHTINGS, get_weighting

SECONDS = float(os.environ.get("SKREWEIGHT_FUZZ_SECONDS", "120"))
FIRST_SEED = int(os.environ.get("SKREWEIGHT_FUZZ_SEED", "0"))
#: Errors must be raised on purpose: in this package, or in the checks of those it stands on.
ON_PURPOSE = ("/skreweight/", "/sklearn/", "/skorch/", "/torch/optim/")


class BatchNormed(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, n_classes)
        )

    def forward(self, x):
        return self.layers(x)


class LogProbabilities(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, n_classes), nn.LogSoftmax(-1))

    def forward(self, x):
        return self.layers(x)


class Words(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.words, self.head = nn.Embedding(12, 4), nn.Linear(4, n_classes)

    def forward(self, x):
        return self.head(self.words(x).mean(1))


ODD = st.sampled_from([0, 1, -1, 0.5, 2, 1e-8, 1e8, math.nan, math.inf, None, "x", True, -0.0])

PARAMETERS = {
    "warmup_epochs": st.sampled_from([0, 0, 2, 2, 2, -1, 1.5]),
    "max_epochs": st.sampled_from([0, 0, 2, 2, 3, 3, "2"]),
    "batch_size": st.sampled_from([-1, 1, 2, 7, 16, 128, np.int64(8), 32, 0]),
    "lr": st.sampled_from([1e-3, 0.1, 0.1, 1.0, 10.0, 1e6, 1e-8, 0, math.nan]),
    "optimizer": st.sampled_from(
        [
            torch.optim.SGD,
            torch.optim.AdamW,
            torch.optim.RMSprop,
            torch.optim.Adagrad,
            torch.optim.LBFGS,
            "Adam",
        ]
    ),
    "optimizer__weight_decay": st.sampled_from([0.0, 0.1, -1.0]),
    "criterion": st.sampled_from(
        [nn.NLLLoss, FocalLoss, LDAMLoss, LogitAdjustedLoss, nn.MSELoss, nn.BCELoss]
    ),
    "class_weight": st.sampled_from(["balanced", "effective-number", {0: 2.0}, {1: -1.0}, {9: 1.0}, "x"]),
    "defer_class_weight": st.booleans(),
    "sampling": st.sampled_from(["balanced", "sqrt", "progressive", "effective-number", 0.5, 0, 2.0]),
    "defer_sampling": st.booleans(),
    "stage_two_trainable": st.sampled_from(["classifier", "*bias", ["*weight"], "x", []]),
    "validation_data": st.sampled_from([1, 1, 2, 0.5, 0.2, KFold(3), StratifiedKFold(2), 2.0, 1000]),
    "train_on_validation": st.booleans(),
    "validation_batch_size": st.sampled_from([1, 2, 100, 0]),
    "keep_best": st.sampled_from(["step", "step", False, True]),
    "restart_stage_two": st.booleans(),
    "on_nonfinite": st.sampled_from(["skip", "skip", "x"]),
    "diagnostics": st.booleans(),
    "autocast": st.sampled_from(["bfloat16", "bfloat16", "bfloat16", "x"]),
    "device": st.sampled_from(["cpu", "cpu", "cuda:7", "x"]),
    "callbacks": st.sampled_from(
        [
            "disable",
            [EarlyStopping(patience=1)],
            [LRScheduler("StepLR", step_size=1)],
            [GradientNormClipping(1.0)],
            [EpochScoring("balanced_accuracy")],
            [3],
        ]
    ),
    "checkpoint": st.just("checkpoint"),
    "checkpoint_every": st.sampled_from([1, 2, 0]),
    "classes": st.sampled_from([[0, 1], [0, 1, 2, 3, 4], [1, 0], []]),
    "module": st.sampled_from([BatchNormed, LogProbabilities, Words, nn.Linear(3, 2), "x"]),
    "module__hidden": st.sampled_from([(), (3,), (4, 4), (0,), 5]),
    "module__dropout": st.sampled_from([0.0, 0.5, 1.0]),
    "iterator_train__drop_last": st.booleans(),
    "iterator_train__shuffle": st.booleans(),
    "iterator_train": st.just(torch.utils.data.DataLoader),
    "random_state": st.sampled_from([None, 0, 1, np.random.RandomState(0), "x"]),
    "no_such_parameter": st.sampled_from([1]),
}


@st.composite
def estimators(draw):
    """Draw an estimator: few parameters at a time, so that most combinations train."""
    if draw(st.integers(0, 29)) == 0:
        return ReweightedEnsembleClassifier, {
            "n_steps": draw(st.sampled_from([1, 3])),
            "n_folds": draw(st.sampled_from([2, 3, 1])),
            "decision": draw(st.sampled_from(["auto", "argmax", "f1_macro", 0.3, "x"])),
            "random_state": 0,
        }
    weighting = draw(st.sampled_from(sorted(WEIGHTINGS)))
    params = {"weighting": weighting, "warmup_epochs": 1, "max_epochs": 1, "batch_size": 8, "random_state": 0}
    names = draw(st.lists(st.sampled_from(sorted(PARAMETERS)), max_size=4, unique=True))
    params |= {name: draw(PARAMETERS[name]) for name in names}
    own = sorted(get_weighting(weighting).get_params())
    if own and draw(st.integers(0, 3)) == 0:
        params[f"weighting__{draw(st.sampled_from(own))}"] = draw(ODD)
    return ReweightedClassifier, params


@st.composite
def inputs(draw):
    """Draw X, y and what else goes to fit."""
    n_rows, n_columns = draw(st.sampled_from([2, 5, *range(8, 40)])), draw(st.integers(1, 4))
    n_classes = draw(st.sampled_from([2, 2, 2, 2, 3, 3, 5, 1]))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    codes = np.minimum(generator.geometric(0.6, n_rows) - 1, n_classes - 1)
    X = generator.normal(size=(n_rows, n_columns)) * draw(
        st.sampled_from([1.0] * 16 + [1e-20, 1e4, 1e30, 1e300, 0])
    )
    with np.errstate(all="ignore"):
        X = X.astype(
            draw(st.sampled_from([np.float32, np.float32, np.float64, np.float16, np.int64])),
            casting="unsafe",
        )
    odd = draw(st.sampled_from([None] * 18 + [math.nan, math.inf]))
    if odd is not None and X.dtype.kind == "f":
        X[0, 0] = odd
    labels = {
        "codes": codes,
        "shifted": codes + 7,
        "strings": np.array([f"class {c}" for c in codes]),
        "objects": np.array([f"class {c}" for c in codes], dtype=object),
        "booleans": codes > 0,
        "floats": codes.astype(float),
        "fractions": codes + 0.5,
        "column": codes[:, None],
        "too few": codes[:-1],
    }
    y = labels[draw(st.sampled_from(["codes"] * 20 + sorted(labels)))]
    given = {}
    weights = draw(
        st.sampled_from(
            [None] * 16 + ["ones", "random", "random", "large", "zeros", "negative", "nan", "short"]
        )
    )
    if weights is not None:
        ones = np.ones(n_rows)
        given["sample_weight"] = {
            "ones": ones,
            "random": generator.random(n_rows),
            "large": ones * 1e300,
            "zeros": ones * 0,
            "negative": -ones,
            "nan": ones * math.nan,
            "short": ones[1:],
        }[weights]
    if draw(st.integers(0, 7)) == 0:
        given |= {"X_val": X[:6], "y_val": y[:6]}
    form = draw(
        st.sampled_from(
            ["array"] * 12 + ["frame", "frame", "tensor", "tensor", "list", "1-D", "3-D", "empty"]
        )
    )
    made = {
        "array": lambda: X,
        "frame": lambda: pd.DataFrame(X, columns=[f"c{k}" for k in range(n_columns)]),
        "tensor": lambda: torch.from_numpy(X),
        "list": lambda: X.tolist(),
        "1-D": lambda: X[:, 0],
        "3-D": lambda: X[:, :, None],
        "empty": lambda: X[:0],
    }
    return made[form](), y, given


def outcome(kind, params, X, y, given, folder):
    """Fit and predict; return what came of it, or raise an AssertionError for what nobody can explain."""
    if "checkpoint" in params:
        params = {**params, "checkpoint": folder / "fit.pt"}
        params["checkpoint"].unlink(missing_ok=True)
    net = None
    with warnings.catch_warnings(record=True) as told, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            net = kind(**params)
            net.fit(X, y, **given)
            proba = net.predict_proba(X)
            labels = net.predict(X)
        except (ValueError, TypeError) as error:
            assert_explained(error)
            if net is not None and kind is ReweightedClassifier and not isinstance(error, NonFiniteError):
                fitted = "fit" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
                trained = net.initialized_ and net.progress_.epochs_done > 0  # such a one is kept
                assert not (fitted and net.initialized_ and not trained), (
                    "an estimator that could not be fitted is changed"
                )
            return type(error).__name__
    for warning in told:
        if "/torch/" in warning.filename:
            continue  # what torch says of itself
        assert issubclass(warning.category, UserWarning), f"{warning.category.__name__}: {warning.message}"
        assert " " in str(warning.message)
    assert np.isfinite(proba).all(), "probabilities that are not finite"
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-4)
    assert (proba >= 0).all()
    assert set(np.unique(labels)) <= set(net.classes_)
    return "fitted"


def assert_explained(error):
    """Look whether an error was raised on purpose and says something."""
    file = traceback.extract_tb(error.__traceback__)[-1].filename
    message = str(error)
    assert any(part in file for part in ON_PURPOSE), (
        f"raised in {file}: {type(error).__name__}: {message[:300]}"
    )
    assert len(message.split()) >= 4, f"says too little: {message!r}"


@pytest.mark.slow
def test_every_outcome_is_a_fit_or_a_clear_sentence(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    unexplained: dict[str, str] = {}

    def once(number: int) -> None:
        @seed(number)
        @settings(
            max_examples=40,
            derandomize=False,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(estimators(), inputs())
        def some(estimator, data):
            if time.monotonic() > end:
                return
            try:
                outcomes[outcome(*estimator, *data, tmp_path)] += 1
            except Exception as error:
                outcomes["unexplained"] += 1
                about = f"{type(error).__name__}: {error}".strip()[:400]
                X, y, given = data
                example = f"{estimator[1]}, X {type(X).__name__} {np.shape(X)}, y {np.asarray(y)[:5]}, {list(given)}"
                print(f"{about}\n    {example}", flush=True)
                unexplained.setdefault(re.sub(r"[0-9.]+", "#", about[:80]), f"{about}\n    {example}")

        some()

    end, number = time.monotonic() + SECONDS, FIRST_SEED
    while time.monotonic() < end:
        once(number)
        number += 1
    print(f"seeds {FIRST_SEED} to {number - 1}: {dict(outcomes)}")
    assert not unexplained, f"{dict(outcomes)}\n" + "\n".join(unexplained.values())
    assert outcomes["fitted"] > 0.1 * outcomes.total()

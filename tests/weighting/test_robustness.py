"""A loss that is not finite: where training stops, what is kept, what is skipped."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from skreweight import ReweightedClassifier
from skreweight.weighting import WEIGHTINGS
from tests.weighting.problem import Net, assert_same, data, pair

GOOD = [list(range(first, first + 12)) for first in range(0, 48, 12)]
# Row 60 holds a number too large for the network.
ABSURD = 60
BAD = [*range(48, 56), ABSURD]
METHODS = [name for name in WEIGHTINGS if name != "two-phase"]

every_method = pytest.mark.parametrize("name", METHODS)
every_optimizer = pytest.mark.parametrize(
    "optimizer",
    [
        {},
        {"optimizer__foreach": True},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9},
        {"optimizer": torch.optim.RMSprop},
    ],
    ids=["fused adam", "adam", "fused sgd", "rmsprop"],
)


class Overflowing(Net):
    """Behind BatchNorm, which hides large numbers, the outputs of some rows overflow."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return super().forward(X) * torch.where(X[:, :1] > 1e6, torch.inf, 1.0)


class Batches:
    """The batches of each epoch, the last epoch's again and again."""

    def __init__(self, *epochs: list[list[int]]) -> None:
        self.epochs, self.k = epochs, 0

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.epochs[min(self.k, len(self.epochs) - 1)]
        self.k += 1


def classifier(name: str, *epochs: list[list[int]], **settings: Any) -> ReweightedClassifier:
    return ReweightedClassifier(
        Overflowing,
        weighting=name,
        iterator_train__batch_sampler=Batches(*epochs),
        validation_data=pair(),
        module__norm=True,
        **{
            "module__dropout": 0.3,
            "warmup_epochs": 0,
            "max_epochs": len(epochs),
            "keep_best": False,
            "random_state": 0,
            **settings,
        },
    )


def rows() -> tuple[Any, Any]:
    X, y = data()
    X = X[:64].copy()
    X[ABSURD, 0] = 1e7
    return X, y[:64]


@every_method
@every_optimizer
def test_stops_and_keeps_the_last_good_step(name: str, optimizer: dict[str, Any]) -> None:
    """Parameters, BatchNorm's statistics and their count; good batches after the bad one change nothing."""
    broken = classifier(name, GOOD, [*GOOD[:2], BAD, *GOOD[2:]], **optimizer)
    with pytest.raises(
        ValueError, match=r"epoch 2, batch 3: .*not\s+finite.*features reach 1e\+07: scale them"
    ):
        broken.fit(*rows())
    stopped = classifier(name, GOOD, GOOD[:2], on_nonfinite="skip", **optimizer).fit(*rows())
    assert_same(broken, stopped)
    assert all(p.isfinite().all() for p in broken.module_.parameters())
    assert np.isfinite(broken.predict_proba(rows()[0][:40])).all()


def test_names_the_learning_rate_where_the_features_are_small() -> None:
    X, y = rows()
    X[ABSURD, 0] = 1.0
    with pytest.raises(ValueError, match=r"epoch \d, batch \d: .*the learning rate lr=1e\+200 is too large"):
        classifier("none", GOOD, GOOD, GOOD, lr=1e200, optimizer=torch.optim.SGD).fit(X, y)


def test_in_stage_one_as_well() -> None:
    with pytest.raises(ValueError, match="epoch 1, batch 1"):
        classifier("two-phase", [BAD], GOOD, warmup_epochs=1, max_epochs=1).fit(*rows())


@every_method
@every_optimizer
def test_skips_and_warns_once(name: str, optimizer: dict[str, Any]) -> None:
    """The fit is the one without those batches, and the method's state as well."""
    epochs = [GOOD, [*GOOD[:2], BAD, *GOOD[2:], BAD], [BAD, *GOOD]]
    # Without dropout: its draws go on with every batch that is looked at.
    options = {"module__dropout": 0.0, "on_nonfinite": "skip", **optimizer}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        skipping = classifier(name, *epochs, **options).fit(*rows())
    assert [str(w.message)[:8] for w in caught if "skipped" in str(w.message)] == ["Epoch 2:"]
    assert skipping.history_[:, "n_skipped"] == [0, 2, 1]
    assert all(0 < loss < 100 for loss in skipping.history_[:, "train_loss"])
    without = classifier(name, GOOD, GOOD, GOOD, **options).fit(*rows())
    assert_same(skipping, without)
    for key, value in without.weighting_.state_dict().items():
        assert torch.equal(skipping.weighting_.state_dict()[key], value), key


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_what_the_last_step_does_is_looked_at_too(policy: str) -> None:
    """No later step sees the parameters of the last one."""
    X, y = rows()
    X[ABSURD, 0] = 1.0
    settings = {"optimizer": torch.optim.SGD, "lr": 1e200, "on_nonfinite": policy}
    with pytest.raises(
        ValueError, match=r"ended in epoch 1 with .* not finite.*the learning rate lr=1e\+200"
    ):
        classifier("none", [GOOD[0]], **settings).fit(X, y)


def test_wild_features_and_a_large_last_step() -> None:
    """Parameters are finite there, predictions are not."""
    torch.manual_seed(0)
    r = np.random.RandomState(0)
    y = (r.rand(40) < 0.3).astype(int)
    X = ((r.randn(40, 3) + y[:, None]) * 1e10).astype(np.float32)
    net = ReweightedClassifier(
        torch.nn.Sequential(torch.nn.Linear(3, 100), torch.nn.ReLU(), torch.nn.Linear(100, 2)),
        weighting="none",
        optimizer=torch.optim.SGD,
        lr=1e-2,
        warmup_epochs=1,
        max_epochs=1,
        random_state=0,
    )
    with pytest.raises(ValueError, match=r"ended in epoch 2 with .* not finite.*features reach 2.94e\+10"):
        net.fit(X, y)
    assert all(p.isfinite().all() for p in net.module_.parameters())
    with pytest.raises(ValueError, match="outputs are not finite for"):
        net.predict_proba(X)

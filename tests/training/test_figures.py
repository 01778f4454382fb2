"""What an epoch records: means over rows, diagnostics for one network and for several, weights of the rows."""

from typing import Any

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

from skreweight import ReweightedClassifier
from skreweight._rows.place import Rows
from skreweight._training.diagnostics import summarised
from skreweight._training.stage import Stage, stage_at
from skreweight.core.example_loss import ExampleLoss
from skreweight.weighting import ABSGD, Hu, NoWeighting, TwoPhase

X = np.random.default_rng(0).normal(size=(50, 3))
Y = np.arange(50) % 2


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2, dtype=torch.float64)

    def forward(self, X: Tensor) -> Tensor:
        return self.layer(X)


class Refusing(Net):
    """Has no answer for large features."""

    def forward(self, X: Tensor) -> Tensor:
        return super().forward(X).masked_fill(X[:, :1] > 1e5, torch.nan)


def classifier(weighting: Any, **parameters: Any) -> ReweightedClassifier:
    defaults: dict[str, Any] = {"module": Net, "warmup_epochs": 1, "max_epochs": 2, "batch_size": 16}
    return ReweightedClassifier(weighting=weighting, random_state=0, **{**defaults, **parameters})


@pytest.mark.parametrize("weighted", [False, True])
def test_train_loss_is_the_mean_over_rows(weighted: bool) -> None:
    """With steps of no size the figure is the loss of the network as it is; the last batch has 2 rows of 50."""
    weights = np.random.default_rng(1).uniform(0.5, 2, size=50) if weighted else None
    net = classifier("none", lr=1e-300, optimizer=torch.optim.SGD).fit(X, Y, sample_weight=weights)
    proba = net.predict_proba(X)[np.arange(50), Y]
    expected = np.average(-np.log(proba), weights=weights)
    assert net.history[:, "train_loss"] == pytest.approx([expected] * 3, rel=1e-12)


def test_a_skipped_batch_is_no_part_of_the_mean() -> None:
    """The row that breaks its batch takes 15 others of 50 with it, or 1 where it comes to stand in the last."""
    broken = X.copy()
    broken[7] = 1e6
    options = {"module": Refusing, "lr": 1e-300, "optimizer": torch.optim.SGD, "on_nonfinite": "skip"}
    with pytest.warns(UserWarning, match="skipped 1 batch"):
        net = classifier("none", **options).fit(broken, Y)
    assert net.history[:, "n_skipped"] == [1, 1, 1]
    losses = -np.log(net.predict_proba(X)[np.arange(50), Y])
    for figure in net.history[:, "train_loss"]:
        assert losses.min() < figure < losses.max()


class Seen(Callback):
    """Writes down, row by row, the weights of the last epoch as a loss of one's own would find them."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        net.weighting_.seen = []


class Watched(ABSGD):
    def weigh(self, step: Any) -> Tensor:
        weights = super().weigh(step)
        self.seen.append((step.rows.tolist(), weights.tolist()))
        return weights


@pytest.mark.parametrize("drawn", [False, True], ids=["each row once", "rows in several batches"])
def test_example_weights_are_those_of_the_last_epoch_row_by_row(drawn: bool) -> None:
    generator = np.random.default_rng(0)
    batches = [generator.permutation(50)[:n] for n in (20, 20, 20, 7)]
    options = {"iterator_train__batch_sampler": batches} if drawn else {}
    net = classifier(Watched(), callbacks=[Seen()], max_epochs=1 if drawn else 2, **options).fit(X, Y)
    expected = np.ones(50)
    for rows, weights in net.weighting_.seen:
        for row, weight in zip(rows, weights, strict=True):
            expected[row] = weight * len(rows)
    assert len(net.weighting_.seen) == 4
    np.testing.assert_allclose(net.example_weights_, expected, rtol=1e-15)


def rows(train: Tensor | None) -> Rows:
    return Rows(
        x=torch.zeros(9, 1),
        targets=torch.arange(9) % 3,
        train=train,
        validation=None,
        multiplicity=None,
        class_counts=torch.ones(3),
        n_given=9,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


@pytest.mark.parametrize("stored", [False, True])
def test_diagnostics_of_a_pack_are_those_of_its_members(stored: bool) -> None:
    train = torch.stack([torch.randperm(9)[:6] for _ in range(3)])
    weights = torch.rand(3, 9, dtype=torch.float64)
    weights[1, 4] = torch.inf
    weights[2, :2] = 0
    noted = {"step": [torch.rand(3, 1, dtype=torch.float64) for _ in range(4)]}
    labels = np.array(["a", "b", "c"])
    weighting = Hu(floor=0.1)

    def figures(given: Tensor, train: Tensor, noted: dict[str, list[Tensor]]) -> dict[str, Any]:
        weighting.state_ = {"weights": given} if stored else {}
        return summarised(noted, weighting, rows(train), None if stored else given, labels)

    together = figures(weights, train, noted)
    at_floor = {"at_floor"} if stored else set()
    assert set(together) == {"step", "effective_rows_a", "effective_rows_b", "effective_rows_c"} | at_floor
    for k in range(3):
        alone = figures(weights[k], train[k], {"step": [v[k, 0] for v in noted["step"]]})
        assert {name: value[k] for name, value in together.items()} == pytest.approx(alone, rel=1e-14)


def test_the_stage_of_an_epoch() -> None:
    loss = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))
    stages = [Stage(k, n, NoWeighting(), loss) for k, n in ((1, 2), (2, 0), (3, 3))]
    found = [(stage.number, first, end) for stage, first, end in (stage_at(stages, k) for k in range(7))]
    assert found == [(1, 0, 2)] * 2 + [(3, 2, 5)] * 5


def test_two_phase_plans_its_own_stage_on_validation_rows() -> None:
    loss = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))
    method = TwoPhase()
    stages = [Stage(1, 2, NoWeighting(), loss), Stage(2, 2, method, loss, keep_best="epoch")]
    assert [s.rows for s in method.plan(stages)] == ["training", "validation"]
    assert method.plan(stages)[1].keep_best == "epoch"
    assert NoWeighting().plan(stages) == stages

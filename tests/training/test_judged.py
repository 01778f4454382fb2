"""What parameters are judged on, and learning rates that follow the share that is done."""

import math

import pytest
import torch
from torch import nn

from skreweight._rows.batches import TensorBatches
from skreweight._rows.place import Judged
from skreweight._training import keep_best
from skreweight._training.schedule import Schedule
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model

LOSS = ExampleLoss(nn.CrossEntropyLoss(reduction="none"))


def codes_of(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.argmax(dim=1)


def problem() -> tuple[Model, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = Model(*[nn.Linear(3, 2).double() for _ in range(2)], stacked=True)
    return model, torch.randn(2, 9, 3).double(), torch.randint(2, (2, 9))


def test_weighted_judgement_equals_a_loop_over_rows() -> None:
    model, x, targets = problem()
    weights = torch.rand(2, 9).double()
    judgement = keep_best.judged(model, Judged(x, targets, weights), LOSS, codes_of)
    for k in range(2):
        z = model.member(k)(x[k]).detach()
        rows = list(zip(weights[k], z, targets[k], strict=True))
        loss = sum(float(w * nn.functional.cross_entropy(a, b)) for w, a, b in rows)
        hits = sum(float(w) for w, a, b in rows if a.argmax() == b)
        assert judgement.loss[k].item() == pytest.approx(loss / weights[k].sum().item(), rel=1e-12)
        assert judgement.accuracy[k].item() == pytest.approx(hits / weights[k].sum().item(), rel=1e-12)


def test_rows_of_weight_zero_count_for_nothing() -> None:
    model, x, targets = problem()
    weights = torch.ones(2, 9).double()
    weights[1, 5:] = 0
    judgement = keep_best.judged(model, Judged(x, targets, weights), LOSS, codes_of)
    alone = keep_best.judged(model, Judged(x[:, :5], targets[:, :5]), LOSS, codes_of)
    assert judgement.loss[1].item() == pytest.approx(alone.loss[1].item(), rel=1e-12)
    assert judgement.loss[0].item() != pytest.approx(alone.loss[0].item(), rel=1e-3)


def test_many_rows_are_judged_in_parts() -> None:
    model, x, targets = problem()
    whole = keep_best.judged(model, Judged(x, targets), LOSS, codes_of)
    parts = keep_best.judged(model, Judged(x, targets), LOSS, codes_of, rows_at_once=4)
    torch.testing.assert_close(parts.outputs, whole.outputs, rtol=1e-12, atol=0)
    torch.testing.assert_close(parts.loss, whole.loss, rtol=1e-12, atol=0)


def test_a_schedule_multiplies_the_rate_of_every_group() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 2.0}])
    schedule = Schedule(optimizer, lambda share: math.exp(-share))
    for share in (0.25, 0.75):  # not compounded
        schedule(share)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(
            [0.1 * math.exp(-share), 2 * math.exp(-share)]
        )


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [3, 4, 10, 12, -1])
def test_the_length_of_batches_is_how_many_there_are(batch_size: int, drop_last: bool) -> None:
    x = torch.arange(24.0).view(12, 2)
    batches = TensorBatches(
        x,
        torch.zeros(12).long(),
        torch.arange(10),
        torch.device("cpu"),
        batch_size=batch_size,
        drop_last=drop_last,
    )
    assert len(batches) == len(list(batches))

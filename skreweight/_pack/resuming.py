"""The state of a pack between two epochs, for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from skreweight._classifier import ReweightedClassifier
from skreweight._net.resuming import plain_history, put_history
from skreweight._training.guard import Guard
from skreweight._training.keep_best import write
from skreweight._training.members_guard import MembersGuard
from skreweight._training.state import TrainingState
from skreweight.core.model import Model

#: Estimators that share each member.
Sharing = Sequence[Sequence[ReweightedClassifier]]


def state_of(
    model: Model, optimizer: Optimizer, state: TrainingState, guard: Guard, sharing: Sharing
) -> dict[str, Any]:
    """Return the state of a pack in training, after an epoch: plain values and tensors only."""
    assert isinstance(guard, MembersGuard)
    return {
        "model": model.state(),
        "optimizer": optimizer.state_dict(),
        "training": state.state_dict(),
        "guard": guard.state_dict(),
        "histories": [plain_history(nets[0].history) for nets in sharing],
    }


def go_on_from(
    saved: Mapping[str, Any], model: Model, optimizer: Optimizer, state: TrainingState, sharing: Sharing
) -> None:
    """Bring a pack to a state that `state_of` returned, all but the guard, which the run makes."""
    write(saved["model"], model)
    optimizer.load_state_dict(saved["optimizer"])
    state.load_state_dict(saved["training"], model.parameters[0].device)
    for nets, rows in zip(sharing, saved["histories"], strict=True):
        for net in nets:
            put_history(net, [dict(row) for row in rows])

"""How good the network is on the validation rows, and the parameters with which it was best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skreweight._rows.place import Judged
from skreweight.core.example_loss import ExampleLoss
from skreweight.core.members import over
from skreweight.core.model import Model
from skreweight.core.rows import parts
from skreweight.core.validation_loss import ROWS_AT_ONCE


class Judgement(NamedTuple):
    """Accuracy and mean loss on the validation rows, (*M, 1) each, and the outputs there."""

    accuracy: Tensor
    loss: Tensor
    outputs: Tensor


@torch.no_grad()
def judged(
    model: Model,
    rows: Judged,
    loss: ExampleLoss,
    codes_of: Callable[[Tensor], Tensor],
    corrected: Callable[[Tensor], Tensor] | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Judgement:
    """Return what the model, in evaluation mode, makes of the rows it is judged on; `corrected` outputs, if any are."""
    x, targets, weights = rows
    axis = model.n_lead
    made = [model(part) for part, _ in parts(x, targets, rows_at_once)]
    outputs = made[0] if len(made) == 1 else torch.cat(made, dim=axis)
    final = outputs if corrected is None else corrected(outputs)
    losses = loss(final, targets)
    hits = (codes_of(final.flatten(0, axis)).view(targets.shape) == targets).to(losses.dtype)
    if weights is None:
        return Judgement(hits.mean(-1, keepdim=True), losses.mean(-1, keepdim=True), outputs)
    shares = weights / weights.sum(-1, keepdim=True)
    return Judgement((shares * hits).sum(-1, keepdim=True), (shares * losses).sum(-1, keepdim=True), outputs)


class BestParameters:
    """The parameters with the best validation accuracy so far, ties broken by lower validation loss.

    Comparison and copy are tensor work, one flag a member, so that it can run after every step without a host
    read.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        Parameters and buffers by name, (*M, ...); empty before the first call of `update`.
    """

    def __init__(self) -> None:
        self.accuracy: Tensor | None = None
        self.loss: Tensor | None = None
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, model: Model, accuracy: Tensor, loss: Tensor) -> None:
        """Keep the model's parameters where they are better than the best so far."""
        state = model.state()
        if self.accuracy is None or self.loss is None:
            self.accuracy, self.loss = accuracy.clone(), loss.clone()
            self.tensors = {name: t.clone() for name, t in state.items()}
            return
        better = (accuracy > self.accuracy) | ((accuracy == self.accuracy) & (loss < self.loss))
        self.accuracy = torch.where(better, accuracy, self.accuracy)
        self.loss = torch.where(better, loss, self.loss)
        for name, kept in self.tensors.items():
            torch.where(over(better, kept), state[name], kept, out=kept)

    def held_by(self, model: Model) -> bool:
        """Whether the model's parameters are the best ones."""
        state = model.state()
        return self.tensors.keys() == state.keys() and all(
            t.shape == state[name].shape and torch.equal(t, state[name]) for name, t in self.tensors.items()
        )

    def of_member(self, k: int) -> BestParameters:
        """Return what is kept of member k."""
        own = BestParameters()
        if self.accuracy is not None and self.loss is not None:
            own.accuracy, own.loss = self.accuracy[k].clone(), self.loss[k].clone()
            own.tensors = {name: t[k].clone() for name, t in self.tensors.items()}
        return own

    def state_dict(self) -> dict[str, Any]:
        """Return the state for saving."""
        return {"accuracy": self.accuracy, "loss": self.loss, "tensors": dict(self.tensors)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        self.accuracy, self.loss, self.tensors = state["accuracy"], state["loss"], dict(state["tensors"])


@torch.no_grad()
def write(tensors: Mapping[str, Tensor], model: Model) -> None:
    """Write kept parameters and buffers into a model."""
    for name, tensor in model.state().items():
        tensor.copy_(tensors[name])

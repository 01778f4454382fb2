"""How good the network is on the validation rows, and the parameters with which it was best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skreweight.core.example_loss import ExampleLoss
from skreweight.core.model import Model


class Judgement(NamedTuple):
    """Accuracy and mean loss on the validation rows, scalars, and the outputs there."""

    accuracy: Tensor
    loss: Tensor
    outputs: Tensor


@torch.no_grad()
def judged(
    model: Model, rows: tuple[Any, Tensor], loss: ExampleLoss, codes_of: Callable[[Tensor], Tensor]
) -> Judgement:
    """Return what the model makes of the validation rows, in evaluation mode."""
    x, targets = rows
    with model.evaluating():
        outputs = model(x)
        mean = loss(outputs, targets).mean()
    return Judgement((codes_of(outputs) == targets).to(mean.dtype).mean(), mean, outputs)


class BestParameters:
    """The parameters with the best validation accuracy so far, ties broken by lower validation loss.

    Comparison and copy are tensor work, so that it can run after every step without a host read.

    Attributes
    ----------
    tensors : dict of str to torch.Tensor
        Parameters and buffers by name; empty before the first call of `update`.
    """

    def __init__(self) -> None:
        self.accuracy: Tensor | None = None
        self.loss: Tensor | None = None
        self.tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, module: nn.Module, accuracy: Tensor, loss: Tensor) -> None:
        """Keep the module's parameters if they are better than the best so far."""
        state = module.state_dict()
        if self.accuracy is None or self.loss is None:
            self.accuracy, self.loss = accuracy.clone(), loss.clone()
            self.tensors = {name: t.detach().clone() for name, t in state.items()}
            return
        better = (accuracy > self.accuracy) | ((accuracy == self.accuracy) & (loss < self.loss))
        self.accuracy = torch.where(better, accuracy, self.accuracy)
        self.loss = torch.where(better, loss, self.loss)
        for name, kept in self.tensors.items():
            kept.copy_(torch.where(better, state[name], kept))

    def restore(self, module: nn.Module) -> None:
        """Put the best parameters into the module."""
        module.load_state_dict(self.tensors)

    def held_by(self, module: nn.Module) -> bool:
        """Whether the module's parameters are the best ones."""
        state = module.state_dict()
        return self.tensors.keys() == state.keys() and all(
            t.shape == state[name].shape and torch.equal(t, state[name]) for name, t in self.tensors.items()
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state for saving."""
        return {"accuracy": self.accuracy, "loss": self.loss, "tensors": dict(self.tensors)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        self.accuracy, self.loss, self.tensors = state["accuracy"], state["loss"], dict(state["tensors"])

"""Optimiser steps of K networks at once, of which one that diverges does not take the others along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from skreweight._training.guard import NonFiniteError, check_finite
from skreweight.core.members import over
from skreweight.core.model import Model


class MembersGuard:
    """Steps an optimiser; a member whose loss or gradient is not finite stays at its last good step from then on.

    On a CPU one flag is read per batch, as for single networks whose optimiser is not fused. On other devices, where
    reading it would wait for the step, members are set aside by arithmetic that leaves finite ones as they are.

    Parameters
    ----------
    model : Model
        K networks.
    optimizer : torch.optim.Optimizer

    Attributes
    ----------
    policy : str
        Always ``"raise"``: the composition of the members is told by `failed`.
    failed : torch.Tensor of shape (K, 2), int64
        The epoch since the guard was set and the batch, both from 1, in which a member failed; 0 for the others.
    """

    policy = "raise"

    def __init__(self, model: Model, optimizer: Optimizer) -> None:
        self._model, self._optimizer = model, optimizer
        device = model.parameters[0].device
        self.failed = torch.zeros(*model.shape, 2, dtype=torch.int64, device=device)
        self._reads = reading_is_free(device)
        self._found = torch.zeros((), dtype=torch.float32, device=device)
        self._unit = torch.ones((), dtype=torch.float32, device=device)
        self._kept: dict[str, Tensor] = {}
        self._buffers: list[Tensor] = []
        self._epoch, self._n_steps = 1, 0

    @property
    def halted(self) -> Tensor | None:
        """None: what follows a step concerns members that failed as little as the step itself."""
        return None

    def before_forward(self) -> None:
        """Remember the buffers that a forward pass in training mode changes."""
        self._buffers = [b.clone() for b in self._model.buffers.values()]

    @torch.no_grad()
    def step(self, loss: Tensor, closure: Any = None) -> bool:
        """Step the optimiser; take note of members for which that cannot be."""
        self._n_steps += 1
        gradients = [p.grad for p in self._model.parameters if p.grad is not None]
        if not self._reads or self._any_bad(gradients, loss):
            finite = loss.isfinite()
            for gradient in gradients:
                finite = finite & gradient.flatten(1).isfinite().all(-1, keepdim=True)
            self._set_aside(~finite, gradients)
        self._optimizer.step(closure)
        return True

    def _any_bad(self, gradients: list[Tensor], loss: Tensor) -> bool:
        """Read whether any member's loss or gradient is not finite."""
        check_finite(gradients, loss, self._found, self._unit)
        found = bool(self._found)
        if found:
            self._found.zero_()
        return found

    def _set_aside(self, bad: Tensor, gradients: list[Tensor]) -> None:
        """Keep the parameters of members that fail now, and let zeros be trained in their place."""
        new = bad & (self.failed[:, 1:] == 0)
        now = (self._epoch, self._n_steps)
        parts = [torch.where(new, n, self.failed[:, i : i + 1]) for i, n in enumerate(now)]
        self.failed = torch.cat(parts, dim=1)
        state = self._model.state()
        before = dict(zip(self._model.buffers, self._buffers, strict=True))
        for name, tensor in state.items():
            kept = self._kept.setdefault(name, torch.zeros_like(tensor))
            torch.where(over(new, tensor), before.get(name, tensor), kept, out=kept)
            if name in self._model.names:
                tensor.masked_fill_(over(new, tensor), 0.0)
        for gradient in gradients:
            gradient.masked_fill_(over(bad, gradient), 0.0)

    @torch.no_grad()
    def release(self) -> None:
        """Give members that failed the parameters of their last good step back."""
        state, failed = self._model.state(), self.failed[:, 1:] > 0
        for name, kept in self._kept.items():
            state[name].copy_(torch.where(over(failed, kept), kept, state[name]))
        self._kept = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of members that failed, after an epoch."""
        return {"failed": self.failed, "kept": dict(self._kept), "epoch": self._epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        device = self.failed.device
        self.failed, self._epoch = state["failed"].to(device), state["epoch"]
        self._kept = {name: kept.to(device) for name, kept in state["kept"].items()}

    def finish_epoch(self) -> int:
        """Return 0: no batch is skipped.

        Raises
        ------
        NonFiniteError
            Where no member is left.
        """
        self._epoch, self._n_steps = self._epoch + 1, 0
        if bool((self.failed > 0).all()):
            raise NonFiniteError(int(self.failed[:, 1].max()))
        return 0


def reading_is_free(device: torch.device) -> bool:
    """Whether the host may look at a flag of a device without waiting for what is queued there."""
    return device.type == "cpu"

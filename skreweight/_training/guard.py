"""Optimiser steps that leave everything as it was when a loss or a gradient is not finite."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from skreweight.core.model import Model


class NonFiniteError(ValueError):
    """The loss or its gradient was NaN or infinite in the middle of training, or the network is at its end.

    Parameters
    ----------
    batch : int or None
        The batch of the epoch, counted from 1; None: training ended with a network of no use.
    """

    def __init__(self, batch: int | None) -> None:
        where = "after the last step" if batch is None else f"in batch {batch}"
        super().__init__(f"The loss or its gradient was not finite {where}.")
        self.batch = batch
        #: Whether the rows are to blame, so that there is nothing to keep.
        self.by_rows = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Come out of another process with the message as it is."""
        return type(self), (self.batch,), {**vars(self), "args": self.args}

    def explain(self, epoch: int, largest_feature: float, lr: float, item: int | None = None) -> None:
        """Say where it was, and what the likely cause is.

        Parameters
        ----------
        epoch : int
        largest_feature : float
            Of the training rows, in size; 0 where it is not known.
        lr : float
        item : int or None, default=None
            The first item of a Dataset that is not finite.
        """
        self.by_rows = item is not None
        cause = (
            f"item {item} of the Dataset holds NaN or infinity: impute or drop such items first"
            if item is not None
            else f"features reach {largest_feature:.3g}: scale them (StandardScaler, QuantileTransformer)"
            if largest_feature > 1e3
            else f"the learning rate lr={lr} is too large: lower it, or use skorch's GradientNormClipping"
        )
        if self.batch is None:
            self.args = (
                f"Training ended in epoch {epoch} with a network whose parameters or outputs are not finite. "
                f"Likely cause: {cause}. It cannot predict: history_ is left; mend that and train it anew.",
            )
            return
        self.args = (
            f"Training stopped in epoch {epoch}, batch {self.batch}: the loss or its gradient is not "
            f"finite. Likely cause: {cause}. The parameters of the last good step are kept; on_nonfinite='skip' "
            "would leave such batches out.",
        )


class Guard(Protocol):
    """What stands between a step's gradients and the optimiser.

    Attributes
    ----------
    policy : {"raise", "skip"}
    halted : torch.Tensor or None
        Flag above 0 from the first bad step on, where nobody looks at it before the epoch's end.
    """

    policy: str

    @property
    def halted(self) -> Tensor | None:
        """Flag above 0 from the first bad step on."""
        ...

    def before_forward(self) -> None:
        """Remember what a forward pass changes."""
        ...

    def step(self, loss: Tensor, closure: Any = None) -> bool:
        """Step the optimiser on the gradients in place; return False where the batch is skipped."""
        ...

    def finish_epoch(self) -> int:
        """Return how many batches of the epoch were skipped; start counting anew."""
        ...

    def release(self) -> None:
        """Take the guard off the optimiser."""
        ...


class FiniteGuard:
    """Steps an optimiser only while loss and gradients are finite.

    With a fused optimiser the check costs no host read: the kernel itself skips the update, and the epoch's
    end finds out (`finish_epoch`). All other optimisers, and ``policy="skip"``, read one flag per batch.

    Parameters
    ----------
    model : Model
        One network; its buffers (BatchNorm statistics) are put back as well.
    optimizer : torch.optim.Optimizer
    policy : {"raise", "skip"}
    """

    def __init__(self, model: Model, optimizer: Optimizer, policy: str) -> None:
        self.policy = policy
        self._n_skipped = 0
        self._optimizer = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._buffers = list(model.buffers.values())
        self._saved: list[Tensor] = []
        device = self._parameters[0].device
        self._found = torch.zeros((), dtype=torch.float32, device=device)
        self._unit = torch.ones((), dtype=torch.float32, device=device)
        self._n_steps = 0
        self._n_bad = torch.zeros((), dtype=torch.float32, device=device)
        fused = all(group.get("fused") for group in optimizer.param_groups)
        # torch's fused optimisers all take found_inf; pickling drops the flag that says so.
        supported = getattr(optimizer, "_step_supports_amp_scaling", True)
        self._on_device = bool(fused and policy == "raise" and supported)
        if self._on_device:
            optimizer.grad_scale, optimizer.found_inf = None, self._found  # type: ignore[attr-defined]

    def release(self) -> None:
        """Take the guard off the optimiser."""
        if self._on_device:
            del self._optimizer.grad_scale, self._optimizer.found_inf  # type: ignore[attr-defined]

    def before_forward(self) -> None:
        """Remember the buffers that a forward pass in training mode changes."""
        self._saved = [b.clone() for b in self._buffers]

    @property
    def halted(self) -> Tensor | None:
        """Flag above 0 from the first bad step on, where nobody looks at it before the epoch's end."""
        return self._found if self._on_device else None

    def step(self, loss: Tensor, closure: Any = None) -> bool:
        """Step the optimiser on the gradients in place, if these and the loss are finite.

        Returns
        -------
        bool
            False where the batch is skipped, and whatever follows its step with it.
        """
        self._n_steps += 1
        # Sets the flag where any number is not finite and never unsets it; the factor 1 changes nothing.
        check_finite(
            [g for p in self._parameters if (g := p.grad) is not None], loss, self._found, self._unit
        )
        if self._on_device:
            self._optimizer.step(closure)
            self._n_bad.add_(self._found)
            for buffer, saved in zip(self._buffers, self._saved, strict=True):
                buffer.copy_(torch.where(self._found > 0, saved, buffer))
            return True
        if not bool(self._found):
            self._optimizer.step(closure)
            return True
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(saved)
        if self.policy == "raise":
            raise NonFiniteError(self._n_steps)
        self._n_skipped += 1
        self._found.zero_()
        return False

    def finish_epoch(self) -> int:
        """Return how many batches of the epoch were skipped; start counting anew.

        Raises
        ------
        NonFiniteError
            Where a step was not finite and nobody has said so yet.
        """
        if bool(self._found):
            # Once set, the flag stays: every step from the first bad one on was skipped and counted.
            raise NonFiniteError(self._n_steps - int(self._n_bad) + 1)
        skipped, self._n_steps, self._n_skipped = self._n_skipped, 0, 0
        return skipped


def check_finite(grads: list[Tensor], loss: Tensor, found: Tensor, unit: Tensor) -> None:
    """Set `found` to 1 if a gradient or the loss is not finite."""
    tensors = [*grads, loss]
    if all(tensor.dtype == loss.dtype for tensor in grads):
        torch._amp_foreach_non_finite_check_and_unscale_(tensors, found, unit)
    else:
        for tensor in tensors:
            torch._amp_foreach_non_finite_check_and_unscale_([tensor], found, unit)

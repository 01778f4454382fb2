"""How many networks are trained at once: as many as memory has room for."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skreweight._classifier import ReweightedClassifier

#: Bytes a row of X and member: orders, stored weights, weights noted in float64, and their copies.
BYTES_OF_ROW = 48
#: Copies of the parameters: gradients, averages of the optimiser, the best so far, virtual and constraint steps.
COPIES_OF_PARAMETERS = 14
#: Copies of what the layers put out for a batch: signals, those of virtual steps, temporary ones.
COPIES_OF_OUTPUTS = 4


@dataclass(frozen=True)
class Budget:
    """What a pack may take.

    Attributes
    ----------
    max_members : int or None, default=None
        The most networks that are trained at once; None: all there are.
    n_bytes : int or None, default=None
        Memory, on the device of the training; None: all there is.
    """

    max_members: int | None = None
    n_bytes: int | None = None

    def members(self, net: ReweightedClassifier, X: Tensor, wanted: int) -> int:
        """Return how many networks are trained at once, at least 1.

        Parameters
        ----------
        net : ReweightedClassifier
            One of them, with its components.
        X : torch.Tensor of shape (N, ...)
            The pack's rows.
        wanted : int
            How many there are.
        """
        most = wanted if self.max_members is None else min(wanted, self.max_members)
        if self.n_bytes is None or most == 1:
            return most
        return max(1, min(most, self.n_bytes // bytes_of_member(net, X)))


def bytes_of_member(net: ReweightedClassifier, X: Tensor) -> int:
    """Return about how much memory each member of a pack takes."""
    n_parameters = sum(p.nbytes for p in net.module_.parameters())
    batch = len(X) if net.batch_size == -1 else min(net.batch_size, len(X))
    outputs = batch * _bytes_put_out(net.module_, X[:2].to(net._floating_dtype())) // 2
    return (
        BYTES_OF_ROW * len(X)
        + COPIES_OF_PARAMETERS * n_parameters
        + COPIES_OF_OUTPUTS * (outputs + batch * X[:1].nbytes)
    )


@torch.no_grad()
def _bytes_put_out(module: nn.Module, x: Tensor) -> int:
    """Bytes that the layers of a network put out for some rows."""
    found = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        found.append(output.nbytes if isinstance(output, Tensor) else 0)

    tried = copy.deepcopy(module).eval()
    for part in tried.modules():
        part.register_forward_hook(note)
    tried(x.to(next(tried.parameters()).device))
    return sum(found)


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory is free on a device; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None

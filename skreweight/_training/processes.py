"""Training over the processes that torchrun started: sums by torch.distributed."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from skreweight._rows.shares import Shares, Sharing
from skreweight.core.exchange import LOCAL, Exchange

#: What torchrun tells each process.
ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
#: Packages whose fits of an estimator are not the user's own.
OUTER = ("sklearn.", "skreweight.model_selection.", "skreweight._ensemble.", "skreweight._pack.", "imblearn.ensemble.",
         "joblib.")  # fmt: skip
#: Of these, what passes a fit on once.
PASSING_ON = ("sklearn.pipeline", "sklearn.utils", "sklearn.base", "sklearn.compose")


class ProcessLostError(RuntimeError):
    """Another process of a training ended, or did not answer in time."""


def n_started() -> int:
    """Return how many processes torch.distributed knows of, or was told of by torchrun; 1 in a plain Python."""
    if not dist.is_available():
        return 1
    if dist.is_initialized():
        return dist.get_world_size()
    if all(name in os.environ for name in ENVIRONMENT):
        return int(os.environ["WORLD_SIZE"])
    return 1


def refuse_to_nest(what: str, estimators: Any = None) -> None:
    """Raise a ValueError where fits inside of others would be spread over processes.

    Parameters
    ----------
    what : str
        What they are part of, for the message.
    estimators : estimator, sequence of estimators or None, default=None
        Whose ``distributed``, however deep, is False where each process may go its own way; None: nobody has said so.
    """
    if n_started() == 1:
        return
    several = estimators if isinstance(estimators, list | tuple) else [estimators]
    said = [
        value
        for estimator in several
        if hasattr(estimator, "get_params")
        for name, value in estimator.get_params(deep=True).items()
        if name.split("__")[-1] == "distributed"
    ]
    if not said or any(value is not False for value in said):
        raise ValueError(
            f"A fit over processes cannot be part of {what}: each process would run all of it. Set distributed=False, "
            "or start one process and spread the fits with joblib (docs/scaling.md)."
        )


@contextmanager
def joined(distributed: Any, device: Any) -> Iterator[Exchange]:
    """Context of one training: the exchange with the processes that share it, `LOCAL` where there are none.

    Parameters
    ----------
    distributed : {"auto", True, False}
        ``"auto"``: wherever more than one process was started.
    device : torch.device or str
        Of the training.

    Raises
    ------
    ValueError
        Where processes are wanted and there are none, or the fit is part of a search.
    """
    if distributed is not True and not (isinstance(distributed, str) and distributed == "auto"):
        yield LOCAL
        return
    n_processes = n_started()
    if n_processes == 1:
        known = dist.is_available() and (
            dist.is_initialized() or all(name in os.environ for name in ENVIRONMENT)
        )
        if distributed is True and not known:
            raise ValueError(
                "distributed=True needs processes: start the script with torchrun --nproc-per-node=2 script.py, or "
                "leave distributed at 'auto'."
            )
        yield LOCAL
        return
    outer = _outer()
    if outer is not None:
        refuse_to_nest(outer)
    exchange = Processes(_own_device(torch.device(device)))
    try:
        yield exchange
    finally:
        exchange.close()


def _own_device(device: torch.device) -> torch.device:
    """Make the GPU that torchrun means for this process the present one."""
    if device.type == "cuda" and device.index is None:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return device


def _outer() -> str | None:
    """Name of the package whose search or ensemble has called this fit, if one has."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        name = f"{frame.f_globals.get('__name__', '')}."
        if name.startswith(OUTER) and not name.startswith(PASSING_ON):
            return f"one of {name.split('.')[0]}'s searches or ensembles ({name[:-1]})"
        frame = frame.f_back
    return None


class Processes(Exchange):
    """All processes that were started, each with its share of the rows of every batch.

    Parameters
    ----------
    device : torch.device
        Of the training.

    Attributes
    ----------
    shares : Shares or None
        How the present batch is spread.
    stops : bool
        Whether this process was asked to stop, by Ctrl-C or a callback: all do at the next step.
    lost : bool
        Whether another process is gone.
    common : torch.Generator
        The stream that all processes draw from in step, while a batch is worked on.
    """

    is_shared = True

    def __init__(self, device: torch.device) -> None:
        backend = "nccl" if device.type == "cuda" else "gloo"
        self.device = device
        self.shares: Shares | None = None
        self.stops, self.lost = False, False
        with self._clear_errors():
            if not dist.is_initialized():
                dist.init_process_group(backend)
                atexit.register(_leave)
            # A group of one's own can be left when something goes wrong: the others then hear of it at once.
            self._group = dist.new_group(backend=backend, timeout=_timeout())
        self.rank, self.n_processes = dist.get_rank(self._group), dist.get_world_size(self._group)
        self.common = torch.Generator()

    def close(self) -> None:
        """Leave the group of this training."""
        with suppress(RuntimeError, ValueError):
            dist.destroy_process_group(self._group)

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:
            self.lost = True
            raise ProcessLostError(
                "Training over processes ended: another process is gone, raised an error of its own (look at its "
                f"output), or did not answer within the group's timeout ({str(error).splitlines()[0]}). Checkpoints "
                "are kept: start all processes anew."
            ) from error

    def _reduced(self, values: Tensor, op: Any = None) -> Tensor:
        with self._clear_errors():
            dist.all_reduce(values, dist.ReduceOp.SUM if op is None else op, group=self._group)
        return values

    # ---------------------------------------------------------------- a step

    def sum(self, values: Tensor) -> Tensor:
        """Return a figure of the batch summed over processes."""
        return self._reduced(values.detach().clone())

    def max(self, values: Tensor) -> Tensor:
        """Return the largest of a figure of the batch over processes; NaN where one is NaN."""
        return self._of_each(values).amax(0)

    def log_sum_exp(self, values: Tensor) -> Tensor:
        """Return log Σ exp(v) over the processes of a figure of the batch."""
        return torch.logsumexp(self._of_each(values), 0)

    def loss(self, values: Tensor) -> Tensor:
        """Return Σ_i w_i f_i summed over processes; a KeyboardInterrupt that came to one comes to all."""
        if (
            self.device.type == "cuda"
        ):  # a look at the flag would wait for the device: the epoch's end has one
            return self.sum(values)
        *summed, stops = self._reduced(torch.cat([values.detach(), values.new_tensor([float(self.stops)])]))
        if stops > 0:
            raise KeyboardInterrupt
        return torch.stack(summed)

    def gradients(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return vectors shaped like the parameters summed over processes, in one message a dtype."""
        result: list[Tensor] = list(gradients)
        for dtype in {g.dtype for g in gradients}:
            places = [k for k, g in enumerate(gradients) if g.dtype == dtype]
            flat = self._reduced(torch.cat([gradients[k].detach().reshape(-1) for k in places]))
            for k, part in zip(places, flat.split([gradients[k].numel() for k in places]), strict=True):
                result[k] = part.view(gradients[k].shape)
        return result

    def size(self, n_rows: int) -> int:
        """Return B, the rows of the batch in all processes."""
        assert self.shares is not None
        return len(self.shares.owners)

    def gathered(self, *values: Tensor) -> list[Tensor]:
        """Return figures of the rows of this share, of all rows of the batch in its order."""
        assert self.shares is not None
        counts = self.shares.counts
        # Row numbers and class codes are whole numbers that float64 holds.
        message = torch.zeros(len(values), max(counts), dtype=torch.float64, device=values[0].device)
        n_own = counts[self.rank]
        for line, value in zip(message, values, strict=True):
            line[:n_own] = value.detach()[:n_own]
        parts = self._of_each(message)
        whole = message.new_empty(len(values), len(self.shares.owners))
        order = self.shares.owners.argsort(stable=True)
        whole[:, order] = torch.cat([part[:, :n] for part, n in zip(parts, counts, strict=True)], dim=1)
        return [line.to(value.dtype) for line, value in zip(whole, values, strict=True)]

    def own(self, values: Tensor) -> Tensor:
        """Return this share of figures of all rows."""
        assert self.shares is not None
        if self.shares.counts[self.rank] == 0:
            return values.new_zeros(*values.shape[:-1], 1)
        return values[..., self.shares.owners == self.rank]

    def multiplicity(self, multiplicity: Tensor | None, losses: Tensor) -> Tensor | None:
        """Return how often each row of the share counts: not at all the one that stands for an empty share."""
        assert self.shares is not None
        return multiplicity if self.shares.counts[self.rank] else torch.zeros_like(losses)

    def _of_each(self, values: Tensor) -> Tensor:
        """The values of every process, along a new first axis."""
        own = values.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.n_processes)]
        with self._clear_errors():
            dist.all_gather(parts, own, group=self._group)
        return torch.stack(parts)

    # ---------------------------------------------------------------- an epoch

    def sharing(self, n_rows: int) -> Sharing:
        """Return how so many rows are spread."""
        return Sharing(n_rows, self.rank, self.n_processes, self._begins)

    def _begins(self, shares: Shares) -> None:
        self.shares = shares

    def in_step(self, batches: Any) -> Any:
        """Return the batches such that all processes draw the same orders and rows, and masks of their own."""
        return _InStep(batches, self)

    def merged(self, per_row: Tensor) -> Tensor:
        """Return figures (N,) of which each process has those of its rows."""
        n_rows = per_row.shape[-1]
        rows = torch.arange(n_rows, device=per_row.device)
        mine = self.sharing(n_rows).owners(rows) == self.rank
        return self._reduced(torch.where(mine, per_row.detach(), torch.zeros_like(per_row)))

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in one of the processes; raise what came to one of them in all."""
        told = self._reduced(torch.tensor([float(flag), float(self.stops)], device=self.device))
        if told[1] > 0:
            raise KeyboardInterrupt
        return bool(told[0] > 0)

    @torch.no_grad()
    def lead(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        for tensor in tensors:
            whole = tensor.detach().contiguous()
            with self._clear_errors():
                dist.broadcast(whole, dist.get_global_rank(self._group, 0), group=self._group)
            tensor.copy_(whole)

    def led(self, number: int) -> int:
        """Return a whole number as the first process has it."""
        told = torch.tensor([number], dtype=torch.int64, device=self.device)
        self.lead([told])
        return int(told)

    def check_same(self, what: str, figures: NDArray[np.float64], advice: str, rounding: float = 0.0) -> None:
        """Raise a ValueError in every process where figures differ between them."""
        own = torch.as_tensor(np.asarray(figures, dtype=np.float64), device=self.device)
        sizes = self._of_each(torch.tensor([len(own)], device=self.device))
        all_of_them = self._of_each(own) if bool((sizes == len(own)).all()) else None
        same = all_of_them is not None and bool(
            ((all_of_them - all_of_them[0]).abs() <= rounding * all_of_them[0].abs()).all()
            or all_of_them.isnan().any()
        )
        if not same:
            raise ValueError(f"The {self.n_processes} processes differ in {what}: {advice}.")

    @contextmanager
    def stopping_together(self) -> Iterator[None]:
        """Context in which Ctrl-C, wherever it comes, stops all processes at the same step; a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            if self.stops:
                self.lost = True  # the others are somewhere else
                raise KeyboardInterrupt
            self.stops = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self.stops = False


class _InStep:
    """Batches around whose steps the global generator is the process's own.

    Orders of rows, drawn validation rows and random signs are the same in all processes, so these draw from one stream
    in step; dropout masks differ, since each has other rows.
    """

    def __init__(self, batches: Any, processes: Processes) -> None:
        self._batches, self._processes = batches, processes

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        common, rank = self._processes.common, self._processes.rank
        for batch in self._batches:
            common.set_state(torch.get_rng_state())
            seed = int(torch.randint(2**62, ()))  # moves the global generator on, not the common stream
            torch.manual_seed(seed + rank)
            try:
                yield batch
            finally:
                torch.set_rng_state(common.get_state())


def _timeout() -> Any:
    """The timeout of the group that the user, or torchrun's defaults, set up."""
    backend = dist.group.WORLD._get_backend(  # type: ignore[union-attr]
        torch.device("cuda" if "nccl" in dist.get_backend() else "cpu")
    )
    return getattr(getattr(backend, "options", None), "_timeout", None)


def _leave() -> None:
    if dist.is_initialized():
        with suppress(RuntimeError, ValueError):
            dist.destroy_process_group()

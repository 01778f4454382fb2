"""A network, or K of them stacked, as a function of parameters and rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from skreweight.core.members import Parameters
from skreweight.core.random_state import Draws


class Model:
    """Networks as the function θ, x → outputs, with their trainable parameters as one list.

    One module is used as it is: its parameters are the ones that are trained. Of K modules, which must agree in
    structure, all parameters and buffers are stacked along a leading axis and run at once by `torch.func.vmap`;
    `member` gives them back.

    Parameters
    ----------
    *modules : torch.nn.Module
        One network or K. They may return a tensor or a tuple whose first entry is the output the loss takes.
    stacked : bool or None, default=None
        Whether there is a leading axis; None: where there is more than one module.

    Attributes
    ----------
    shape : tuple of int
        M: () or (K,).
    names, parameters : list of str, list of torch.Tensor
        The parameters that require gradients, each once, tied ones included; (*M, ...), leaves.
    buffers : dict of str to torch.Tensor
        By name, (*M, ...).
    draws : Draws
        Where masks and probes are drawn from.
    training : bool
        Whether calls are those of training mode; `evaluation` returns the other half.
    """

    def __init__(self, *modules: nn.Module, stacked: bool | None = None) -> None:
        own = [getattr(module, "_orig_mod", module) for module in modules]
        is_stacked = len(own) > 1 if stacked is None else stacked
        self.shape: tuple[int, ...] = (len(own),) if is_stacked else ()
        self.draws = Draws()
        self.training = True
        self.module: nn.Module = own[0]
        self._call: nn.Module = modules[0]
        named = dict(own[0].named_parameters())
        self.names = [name for name, p in named.items() if p.requires_grad]
        if not self.names:
            raise ValueError(
                "The module has no parameter that requires gradients: there is nothing to train."
            )
        if self.shape:
            self._sources = own
            self.module = _without_tensors(own[0])
            tensors, self.buffers = torch.func.stack_module_state(own)
            self._fixed = {n: t.detach() for n, t in tensors.items() if n not in self.names}
            self.parameters = [tensors[name].detach().requires_grad_() for name in self.names]
        else:
            self._fixed = {}
            self.parameters = [named[name] for name in self.names]
            self.buffers = dict(own[0].named_buffers())
            self.follow_mode()

    @property
    def n_lead(self) -> int:
        """Number of leading axes: 0 or 1."""
        return len(self.shape)

    @property
    def is_compiled(self) -> bool:
        """Whether calls go to a compiled form of the module."""
        return not self.shape and self._call is not self.module

    def follow_mode(self) -> None:
        """Bring the module itself into training mode, as its own ``train`` does it: layers may stay frozen."""
        if self.training and not self.module.training:
            self.module.train()

    def is_current(self) -> bool:
        """Whether the same parameters require gradients as when the model was made."""
        return bool(self.shape) or self.names == [
            n for n, p in self.module.named_parameters() if p.requires_grad
        ]

    def evaluation(self) -> Model:
        """Return the same networks in evaluation mode: no dropout, no BatchNorm statistics touched.

        Parameters and buffers are shared; the module's own mode is never switched.
        """
        other = copy.copy(self)
        other.module = _with_the_same_tensors(self.module).eval()
        other._call = other.module
        other.training = False
        return other

    def __call__(self, x: Any) -> Tensor:
        """Outputs at the model's own parameters, shape (*M, B, ...)."""
        if self.shape:
            return self._at_once(self._all(self.parameters), self.buffers, x)
        self.follow_mode()
        return _first(_apply(self._call, x))

    def at(self, parameters: Parameters, x: Any) -> Tensor:
        """Outputs at other parameters, shape (*M, B, ...); the model's own are not touched."""
        tensors = self._all(parameters)
        if self.shape:
            return self._at_once(tensors, self.buffers, x)
        return self._functional(tensors, self.buffers, x)

    def replayed(self, parameters: Mapping[str, Tensor], x: Any) -> Tensor:
        """Outputs at other parameters by name, on copies of the buffers, fit for function transforms."""
        buffers = {name: b.clone() for name, b in self.buffers.items()}
        tensors = {**self._fixed, **parameters}
        return self._at_once(tensors, buffers, x) if self.shape else self._functional(tensors, buffers, x)

    def _all(self, parameters: Parameters) -> dict[str, Tensor]:
        return {**self._fixed, **dict(zip(self.names, parameters, strict=True))}

    def _functional(self, tensors: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Any) -> Tensor:
        args, kwargs = ((), dict(x)) if isinstance(x, Mapping) else ((x,), {})
        self.follow_mode()
        return _first(torch.func.functional_call(self.module, {**tensors, **buffers}, args, kwargs))

    def _at_once(self, tensors: dict[str, Tensor], buffers: dict[str, Tensor], x: Any) -> Tensor:
        return torch.func.vmap(self._functional, randomness="different")(tensors, buffers, x)

    def each(self, watched: Callable[[Callable[[Any], Tensor]], Callable[..., Any]], *batched: Any) -> Any:
        """Run K networks at their own parameters with something around the forward pass of each.

        Parameters
        ----------
        watched : callable
            Called with the forward pass of one network, x -> outputs; returns what is run in its place.
        *batched
            Arguments of that, whose tensors have the leading axis.
        """

        def one(tensors: dict[str, Tensor], buffers: dict[str, Tensor], batched: tuple[Any, ...]) -> Any:
            return watched(lambda x: self._functional(tensors, buffers, x))(*batched)

        return torch.func.vmap(one, randomness="different")(self._all(self.parameters), self.buffers, batched)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Context whose forward passes leave the buffers and the random state as they were."""
        saved = [b.clone() for b in self.buffers.values()]
        devices = sorted({p.device.index or 0 for p in self.parameters if p.is_cuda})
        states = [g.get_state() for g in self.draws.generators]
        with torch.random.fork_rng(devices):
            try:
                yield
            finally:
                with torch.no_grad():
                    for buffer, old in zip(self.buffers.values(), saved, strict=True):
                        buffer.copy_(old)
                for generator, state in zip(self.draws.generators, states, strict=True):
                    generator.set_state(state)

    def state(self) -> dict[str, Tensor]:
        """Return all parameters and buffers by name, (*M, ...), detached but not copied."""
        named = self._fixed if self.shape else dict(self.module.named_parameters())
        tensors = {**named, **dict(zip(self.names, self.parameters, strict=True)), **self.buffers}
        return {name: t.detach() for name, t in tensors.items()}

    @torch.no_grad()
    def member(self, k: int) -> nn.Module:
        """Return network k as a module of its own, with the parameters it has now."""
        if not self.shape:
            return self.module
        module = self._sources[k]
        state = self.state()
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            tensor.copy_(state[name][k])
        return module

    def repeat(self, members: Tensor, modules: Sequence[nn.Module] | None = None) -> Model:
        """Return a model of K' networks, the j-th of which starts as this model's number ``members[j]``.

        Parameters
        ----------
        members : torch.Tensor of shape (K',), int64
        modules : sequence of K' torch.nn.Module or None, default=None
            What `member` writes to; None: copies of this model's.
        """
        other = copy.copy(self)
        other.shape = (len(members),)
        other.draws = Draws()
        other._sources = (
            [copy.deepcopy(self._sources[int(k)]) for k in members] if modules is None else list(modules)
        )
        other._fixed = {n: t[members] for n, t in self._fixed.items()}
        other.follow_mode()
        other.buffers = {n: t[members].clone() for n, t in self.buffers.items()}
        other.parameters = [p.detach()[members].requires_grad_() for p in self.parameters]
        return other


def _with_the_same_tensors(module: nn.Module) -> nn.Module:
    """Return a copy of the structure alone: it holds the very parameters and buffers of the module."""
    return copy.deepcopy(module, {id(t): t for t in (*module.parameters(), *module.buffers())})


def _without_tensors(module: nn.Module) -> nn.Module:
    """Return a copy of the structure whose parameters and buffers take no memory: they come with each call."""
    empty: dict[int, Tensor] = {id(b): b.to("meta") for b in module.buffers()}
    empty |= {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in module.parameters()}
    return copy.deepcopy(module, empty)


def _apply(module: nn.Module, x: Any) -> Any:
    return module(**x) if isinstance(x, Mapping) else module(x)


def _first(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple | list) else outputs

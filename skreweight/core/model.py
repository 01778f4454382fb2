"""A module seen as a function of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Parameters = Sequence[Tensor]


class Model:
    """A module as the function θ, x → outputs, with its trainable parameters as a list.

    Parameters
    ----------
    module : torch.nn.Module
        The network. It may return a tensor or a tuple whose first entry is the output that the loss takes.

    Attributes
    ----------
    names, parameters : list of str, list of torch.Tensor
        The parameters that require gradients, each once, tied ones included.
    training : bool
        The mode the module is in, as `train` set it last; training at first.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = getattr(module, "_orig_mod", module)
        self._call = module
        self._modules = list(self.module.modules())
        self.training = True
        self._flags = {mode: self._flags_of(mode) for mode in (False, True)}
        self.names: list[str] = []
        self.parameters: list[Tensor] = []
        if not self.refresh():
            raise ValueError(
                "The module has no parameter that requires gradients: there is nothing to train."
            )

    @property
    def is_compiled(self) -> bool:
        """Whether calls go to a compiled form of the module."""
        return self._call is not self.module

    def refresh(self) -> bool:
        """Take note of parameters frozen or unfrozen since the last call; return whether any was."""
        named = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if list(named) == self.names:
            return False
        self.names, self.parameters = list(named), list(named.values())
        self._places = _places_of(self._modules, self.parameters)
        return True

    def _flags_of(self, mode: bool) -> list[bool]:
        self.module.train(mode)  # a module may override train(), say to keep a layer frozen
        return [m.training for m in self._modules]

    def train(self, mode: bool = True) -> None:
        """Put the module into training (or evaluation) mode, as ``module.train(mode)`` does."""
        self.training = mode
        for module, flag in zip(self._modules, self._flags[mode], strict=True):
            module.__dict__["training"] = flag

    def __call__(self, x: Any) -> Tensor:
        """Outputs at the module's own parameters, shape (B, ...)."""
        return _first(_apply(self._call, x))

    def at(self, parameters: Parameters, x: Any) -> Tensor:
        """Outputs at other parameters, shape (B, ...); the module's own are not touched."""
        with self._substituted(parameters):
            return _first(_apply(self.module, x))

    def functional(self, parameters: Mapping[str, Tensor], x: Any) -> Tensor:
        """Outputs at other parameters, on copies of the buffers, fit for function transforms."""
        buffers = {name: b.clone() for name, b in self.module.named_buffers()}
        args, kwargs = ((), dict(x)) if isinstance(x, Mapping) else ((x,), {})
        return _first(torch.func.functional_call(self.module, {**parameters, **buffers}, args, kwargs))

    @contextmanager
    def _substituted(self, parameters: Parameters) -> Iterator[None]:
        # torch.func.functional_call does the same after looking up every name: a tenth of a small step's time.
        try:
            for places, tensor in zip(self._places, parameters, strict=True):
                for registry, name in places:
                    registry[name] = tensor
            yield
        finally:
            for places, tensor in zip(self._places, self.parameters, strict=True):
                for registry, name in places:
                    registry[name] = tensor

    def evaluating(self) -> _InMode:
        """Context in which the module is in evaluation mode: no dropout, no BatchNorm statistics touched."""
        return _InMode(self, False)

    def in_mode(self, training: bool) -> _InMode:
        """Context in which the module is in training or evaluation mode; afterwards it is as it was."""
        return _InMode(self, training)

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Context whose forward passes leave the buffers and the random state as they were."""
        saved = [b.clone() for b in self.module.buffers()]
        devices = sorted({p.device.index or 0 for p in self.parameters if p.is_cuda})
        with torch.random.fork_rng(devices):
            try:
                yield
            finally:
                with torch.no_grad():
                    for buffer, old in zip(self.module.buffers(), saved, strict=True):
                        buffer.copy_(old)


class _InMode:
    """A class and not a generator: it is entered several times in each training step."""

    def __init__(self, model: Model, training: bool) -> None:
        self._model, self._mode = model, training

    def __enter__(self) -> None:
        self._before = self._model.training
        self._model.train(self._mode)

    def __exit__(self, *exc: object) -> None:
        self._model.train(self._before)


def inner(first: Parameters, second: Parameters) -> Tensor:
    """Return the inner product of two vectors shaped like the parameters, a scalar."""
    return torch.stack(
        [torch.dot(a.flatten(), b.flatten()) for a, b in zip(first, second, strict=True)]
    ).sum()


def _places_of(
    modules: Sequence[nn.Module], parameters: Parameters
) -> list[list[tuple[dict[str, Any], str]]]:
    """Every registry entry that holds each parameter: several for a tied one."""
    places: dict[int, list[tuple[dict[str, Any], str]]] = {id(p): [] for p in parameters}
    for module in modules:
        for name, parameter in module._parameters.items():
            if id(parameter) in places:
                places[id(parameter)].append((module._parameters, name))
    return [places[id(p)] for p in parameters]


def _apply(module: nn.Module, x: Any) -> Any:
    return module(**x) if isinstance(x, Mapping) else module(x)


def _first(outputs: Any) -> Tensor:
    return outputs[0] if isinstance(outputs, tuple | list) else outputs

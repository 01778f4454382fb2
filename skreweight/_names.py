"""Names of parameters that nothing takes, with a guess at what was meant."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any


def check_arguments(prefix: str, kind: Any, names: Iterable[str]) -> None:
    """Raise a ValueError where a class or function does not take an argument of that name.

    Parameters
    ----------
    prefix : str
        What the user writes before the name: ``"module"`` for ``module__hidden``.
    kind : callable
    names : iterable of str
        Those the user has set, without the prefix.
    """
    parameters = inspect.signature(kind).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for name in names:
        if name not in parameters:
            label = getattr(kind, "__name__", repr(kind))
            raise ValueError(
                f"{prefix}__{name} is set, but {label} has no parameter {name!r}"
                f"{did_you_mean(name, parameters, f'{prefix}__')} (it has: {', '.join(parameters) or 'none'})."
            )


def check_parameter_names(
    names: Iterable[str],
    known: Collection[str],
    prefixes: Collection[str],
    owner: str,
    *,
    any_prefix: bool = False,
) -> None:
    """Raise a ValueError for a name that cannot be an estimator's parameter.

    Parameters
    ----------
    names : iterable of str
    known : collection of str
        The estimator's own parameters.
    prefixes : collection of str
        Components: what they take as ``prefix__name`` is not looked at here.
    owner : str
        The estimator's name.
    any_prefix : bool, default=False
        Whether there may be components besides.
    """
    for name in names:
        prefix, _, rest = name.partition("__")
        if name in known or (rest and (prefix in prefixes or any_prefix)):
            continue
        component = next((p for p in prefixes if name.startswith(f"{p}_")), None)
        if component is not None and not rest:
            hint = f": did you mean {component}__{name.removeprefix(component).lstrip('_')}?"
        elif rest:
            hint = did_you_mean(prefix, prefixes).replace("?", f"__{rest}?")
        else:
            hint = did_you_mean(name, known)
        raise ValueError(f"Invalid parameter {name!r} for {owner}{hint or '.'}")


def did_you_mean(name: str, known: Collection[str], prefix: str = "") -> str:
    """Return ": did you mean ...?" with the known name that is most alike, or nothing where none is."""
    close = get_close_matches(name, list(known), n=1)
    return f": did you mean {prefix}{close[0]}?" if close else ""

"""An object as a component of a net: its parameters are set and listed as ``prefix__name``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from skreweight._names import did_you_mean


class ObjectComponent:
    """A component that is no module: a name, a class or an object, with scikit-learn's ``get_params``.

    skorch sets ``prefix__name`` on the net and leaves the object alone; this says what becomes of it.

    Parameters
    ----------
    prefix : str
        Name of the net's parameter; the object made of it is the attribute ``prefix_``.
    make : callable (given, **parameters) -> object
        Returns a new, checked object.
    choices : collection of str
        The names that `make` knows.
    """

    def __init__(self, prefix: str, make: Callable[..., Any], choices: Collection[str]) -> None:
        self.prefix, self._make, self._choices = prefix, make, choices

    def owns(self, name: str) -> bool:
        """Whether a parameter of the net is this component's."""
        return name == self.prefix or name.startswith(f"{self.prefix}__")

    def set_on(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters ``prefix__name`` among a net's attributes."""
        return {k: v for k, v in attributes.items() if k.startswith(f"{self.prefix}__")}

    def made(self, attributes: Mapping[str, Any]) -> Any:
        """Return a new object by a net's attributes."""
        set_on = self.set_on(attributes)
        parameters = {name.removeprefix(f"{self.prefix}__"): value for name, value in set_on.items()}
        return self._make(attributes[self.prefix], **parameters)

    def parameters(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters as ``prefix__name``: the object's, and over them those that were set."""
        try:
            chosen = self._make(attributes[self.prefix])
        except (ValueError, TypeError):
            return {}  # fit says what is wrong with it
        defaults = {f"{self.prefix}__{k}": v for k, v in chosen.get_params().items()}
        return {**defaults, **self.set_on(attributes)}

    def not_taken(self, attributes: Mapping[str, Any]) -> set[str]:
        """Return which of the parameters set on a net the object that is chosen now does not have."""
        try:
            chosen = self._make(attributes[self.prefix])
        except (ValueError, TypeError):
            return set()  # fit says what is wrong with it
        return set(self.set_on(attributes)) - {f"{self.prefix}__{k}" for k in chosen.get_params()}

    def check_name(self, name: str, given: Any) -> None:
        """Raise a ValueError where no object has the parameter ``prefix__name``."""
        key = name.removeprefix(f"{self.prefix}__")
        if self._takes(key, given):
            return
        known = {k for choice in self._choices for k in self._make(choice).get_params()}
        if not isinstance(given, str):
            known |= set(self._make(given).get_params())
        if key not in known:
            raise ValueError(
                f"Invalid parameter {name!r}: no {self.prefix} has a parameter {key!r}"
                f"{did_you_mean(key, known, f'{self.prefix}__')} (there are: {', '.join(sorted(known))})."
            )

    def _takes(self, key: str, given: Any) -> bool:
        """Whether the object that is chosen has a parameter: most names need no look at all the others."""
        try:
            return key in self._make(given).get_params()
        except (ValueError, TypeError):
            return False  # fit says what is wrong with it

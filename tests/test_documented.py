"""Every public class, every method that it defines and every public function says what each of its parameters is."""

import inspect
from collections.abc import Iterator, Sequence
from importlib import import_module
from pkgutil import ModuleInfo, walk_packages
from typing import Any

import pytest
from numpydoc.docscrape import NumpyDocString

import skreweight


def public_objects() -> dict[str, Any]:
    """Return what public modules export, by name; core is the inside."""
    found = {}
    for module in [ModuleInfo(None, "skreweight", True), *walk_packages(skreweight.__path__, "skreweight.")]:
        if any(part.startswith("_") or part == "core" for part in module.name.split(".")):
            continue
        exported = import_module(module.name)
        for name in getattr(exported, "__all__", ()):
            one = getattr(exported, name)
            if inspect.isclass(one) or inspect.isfunction(one):
                found[f"{module.name}.{name}"] = one
    return found


def methods_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a file of this package defines: those on the pages."""
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        ours = (getattr(function, "__module__", None) or "").split(".")[0] == "skreweight"
        if ours and not name.startswith("_") and inspect.isfunction(function):
            yield name, member


def documented(text: str, section: str = "Parameters") -> set[str]:
    """Return the names in a section of a docstring; "a, b : int" and "`**options`" are taken apart."""
    entries = NumpyDocString(inspect.cleandoc(text))[section]
    return {name.strip(" *`\\") for entry in entries for name in entry.name.split(",")}


def parameters(function: Any, *, bound: bool) -> set[str]:
    """Return the names of the parameters, but for the first of a method, and ``**unknown``, which is refused."""
    names = list(inspect.signature(function).parameters)
    return set(names[1:] if bound else names) - {"unknown"}


def complaints(name: str, one: Any) -> list[str]:
    """Return what is missing in the docstrings of a class or function."""
    if not inspect.isclass(one):
        return _of_function(name, one, bound=False)
    text = one.__doc__ or ""
    found = [] if text.strip() else [f"{name} has no docstring"]
    if one.__init__ is not object.__init__:
        own = parameters(one.__init__, bound=True) - documented(text) - documented(text, "Attributes")
        found += [f"{name}: {parameter}" for parameter in sorted(own)]
    for method, member in methods_of(one):
        if isinstance(member, property):
            found += [] if (member.__doc__ or "").strip() else [f"{name}.{method} has no docstring"]
        else:
            function = getattr(member, "__func__", member)
            bound = not isinstance(member, staticmethod)
            found += _of_function(
                f"{name}.{method}", function, bound=bound, overrides=_overridden(one, method)
            )
    return found


def _overridden(cls: type, method: str) -> list[Any]:
    """Return the methods of our own bases that a method of a class stands for: the pages repeat their parameters."""
    ours = (base for base in cls.__mro__ if base.__module__.split(".")[0] == "skreweight")
    return [getattr(base, method) for base in ours if method in vars(base)]


def _of_function(name: str, function: Any, *, bound: bool, overrides: Sequence[Any] = ()) -> list[str]:
    text = function.__doc__ or ""
    if not text.strip():
        return [f"{name} has no docstring"]
    known = documented(text).union(*(documented(other.__doc__ or "") for other in overrides))
    return [f"{name}: {parameter}" for parameter in sorted(parameters(function, bound=bound) - known)]


PUBLIC = public_objects()


def test_the_walk_finds_what_is_public():
    assert {"skreweight.ReweightedClassifier", "skreweight.losses.FocalLoss"} <= set(PUBLIC)
    assert len(PUBLIC) > 60
    assert {"fit", "partial_fit", "predict"} <= dict(methods_of(skreweight.ReweightedClassifier)).keys()


def test_what_is_missing_is_found():
    class Half:
        """One.

        Parameters
        ----------
        a : int
            This one.
        """

        def __init__(self, a, b):
            """Keep them."""

    assert complaints("Half", Half) == ["Half: b"]
    assert complaints("f", lambda x: x) == ["f has no docstring"]


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_is_documented(name):
    assert complaints(name, PUBLIC[name]) == []

"""What autodoc shows of a class: the members that skreweight defines, equations line by line, and shapes as written.

The members of skorch, torch and scikit-learn have manuals of their own.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from skreweight.weighting import WEIGHTINGS

METHODS = Path(__file__).parent.parent / "methods"

#: The page of each weighting under docs/methods.
PAGE_OF = {cls: name for name, cls in WEIGHTINGS.items()}


def equation_of(page: str) -> str:
    """Return the equation in the box of a method's page, the one place where it stands in TeX."""
    text = (METHODS / f"{page}.md").read_text(encoding="utf-8")
    found = re.search(r"^\$\$(.*?)\$\$$", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError(f"docs/methods/{page}.md must have an equation between lines of $$.")
    return " ".join(found.group(1).split())


def skip_inherited(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Skip what no file of the package defines, and data, which the docstring's own section describes."""
    if what != "class":
        return None
    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    defined_here = getattr(function, "__module__", None) or ""
    is_ours = callable(function) and defined_here.split(".")[0] == "skreweight"
    return None if is_ours else True


def as_written(line: str) -> str:
    """Return the line with the star of a shape such as (*M, B) escaped, but for code."""
    if line.lstrip().startswith((">>>", "...")):
        return line
    parts = line.split("``")
    parts[::2] = [re.sub(r"\(\*(?=\w)", r"(\\*", part) for part in parts[::2]]
    return "``".join(parts)


def keep_lines_of_equations(lines: list[str]) -> None:
    """Make literal blocks of the indented blocks before a docstring's first section: those are equations."""
    underlined = (i for i, line in enumerate(lines) if set(line.strip()) == {"-"})
    first_section = next(underlined, len(lines) + 1) - 1
    for i in range(first_section - 1, 0, -1):
        before = next((line for line in reversed(lines[:i]) if line.strip()), "")
        begins = lines[i].startswith("    ") and not lines[i - 1].strip()
        if begins and not before.startswith(" ") and not before.endswith("::"):
            end = next((j for j in range(i, first_section) if lines[j][:1] not in ("", " ")), first_section)
            lines[i:end] = [
                re.sub(r"(?<=\S) {3,}", "   ", line).replace(r"(\*", "(*") for line in lines[i:end]
            ]
            lines[i:i] = ["::", ""]


def parameters_of_bases(name: str, lines: list[str]) -> list[str]:
    """Return the section Parameters that a method without one has in the first base that documents it."""
    module, cls, method = name.rsplit(".", 2)
    owner = getattr(sys.modules.get(module), cls, None)
    if owner is None or "Parameters" in lines:
        return []
    for base in owner.__mro__[1:]:
        text = inspect.cleandoc(getattr(vars(base).get(method), "__doc__", None) or "")
        if base.__module__.startswith("skreweight") and (
            found := re.search(r"^Parameters\n-+\n.*?(?=\n\n\S|\Z)", text, re.M | re.S)
        ):
            return ["", *found.group().splitlines(), ""]
    return []


def prepare(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Change a docstring in place, before numpydoc reads it."""
    if what == "class" and (page := PAGE_OF.get(obj)):
        told = f"Its page says what it is good for, and what was measured: :doc:`/methods/{page}`."
        lines[1:1] = ["", ".. math::", "", f"   {equation_of(page)}", "", told]
    if what == "method":
        section = parameters_of_bases(name, lines)
        sections = (i - 1 for i, line in enumerate(lines) if set(line.strip()) == {"-"})
        place = next(sections, len(lines))
        lines[place:place] = section
    lines[:] = [as_written(line) for line in lines]
    keep_lines_of_equations(lines)


def setup(app: Any) -> dict[str, bool]:
    """Connect to autodoc, before numpydoc does."""
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("autodoc-process-docstring", prepare, priority=400)
    return {"parallel_read_safe": True}

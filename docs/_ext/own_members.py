"""autodoc lists the members that skreweight defines; those of skorch, torch and scikit-learn have manuals."""

from typing import Any


def skip_inherited(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Skip what no file of the package defines, and data, which the docstring's own section describes."""
    if what != "class":
        return None
    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    defined_here = getattr(function, "__module__", None) or ""
    is_ours = callable(function) and defined_here.split(".")[0] == "skreweight"
    return None if is_ours else True


def setup(app: Any) -> dict[str, bool]:
    """Connect to autodoc."""
    app.connect("autodoc-skip-member", skip_inherited)
    return {"parallel_read_safe": True}

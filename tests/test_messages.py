"""Errors and warnings in one dialect: a sentence that begins with a capital or a name, "got …", a full stop.

Every message of the package is read from its source: what is raised, returned or kept as an error, and what is
warned. Its parts are followed into constants, local variables and functions of the package that return text.
"""

import ast
import builtins
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import skreweight
from skreweight import datasets, inspection, losses, model_selection, modules, preprocessing, weighting

PACKAGE = Path(skreweight.__file__).parent
#: Caught by the module that raises them, and quoted in brackets within a sentence of its own.
QUOTED = (
    "no rows below the header",
    "class label {",
    "the archive has no {",
    "no header line",
    "header of {",
    "other content",
    "it asks for {",
    "other parameters: {",
    "{name} has shape {",
)
#: The words of scikit-learn, which its checks ask for.
SKLEARNS = (
    "X has {",
    "Expected 2D array",
    "Found array with ",
    "Found input variables with inconsistent numbers of samples",
    "fit requires y to be passed",
    "Invalid parameter ",
)
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
FUNCTIONS = {
    node.name: node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
}
CALLS: dict[str, list[tuple[ast.Call, list[ast.FunctionDef]]]] = {}
CONSTANTS = {
    target.id: statement.value
    for tree in TREES.values()
    for statement in tree.body
    if isinstance(statement, ast.Assign)
    for target in statement.targets
    if isinstance(target, ast.Name)
}
PUBLIC = (
    skreweight,
    datasets,
    datasets.imbalance,
    inspection,
    losses,
    model_selection,
    modules,
    preprocessing,
    weighting,
)


def names_users_write() -> Iterator[str]:
    """The public functions, methods and their parameters: these may begin a sentence in small letters."""
    for module in PUBLIC:
        for name in module.__all__:
            found = getattr(module, name)
            methods = inspect.getmembers(found, inspect.isfunction) if inspect.isclass(found) else []
            for own, function in [(name, found), *methods]:
                if callable(function) and (not own.startswith("_") or own == "__init__"):
                    yield own
                    yield from inspect.signature(function).parameters


NAMES = set(names_users_write())


def walk(node: ast.AST, within: list[ast.FunctionDef]) -> Iterator[tuple[ast.AST, list[ast.FunctionDef]]]:
    """Every node below one, with the functions it stands in, innermost last."""
    for child in ast.iter_child_nodes(node):
        inside = [*within, child] if isinstance(child, ast.FunctionDef) else within
        yield child, inside
        yield from walk(child, inside)


def called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


NODES = [(path, *found) for path, tree in TREES.items() for found in walk(tree, [])]
for _, node, within in NODES:
    if isinstance(node, ast.Call):
        CALLS.setdefault(called(node), []).append((node, within))


def readings(node: ast.expr | None, within: list[ast.FunctionDef], depth: int = 0) -> list[str]:
    """All that an expression can read as; what cannot be followed stays as its source in braces."""
    if node is None or isinstance(node, ast.Constant):
        return [str(node.value) if node is not None else ""]
    unknown = [f"{{{ast.unparse(node)}}}"]
    if depth > 6:
        return unknown
    if isinstance(node, ast.JoinedStr):
        ends = {0, len(node.values) - 1}  # what stands between is not what this is about
        return joined(
            readings(part, within, depth + 1)
            if n in ends or isinstance(part, ast.Constant)
            else [f"{{{ast.unparse(part.value)}}}"]
            for n, part in enumerate(node.values)
        )
    if isinstance(node, ast.FormattedValue):
        if node.conversion == ord("r") or node.format_spec is not None:
            return [f"{{{ast.unparse(node.value)}}}"]
        return readings(node.value, within, depth + 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return joined(readings(side, within, depth + 1) for side in (node.left, node.right))
    if isinstance(node, ast.IfExp):
        return readings(node.body, within, depth + 1) + readings(node.orelse, within, depth + 1)
    if isinstance(node, ast.BoolOp):
        read = [readings(value, within, depth + 1) for value in node.values]
        return [text for texts in read[:-1] for text in texts if text] + read[-1]
    if isinstance(node, ast.Name):
        return of_a_name(node.id, within, depth) or unknown
    if isinstance(node, ast.Call) and called(node) in FUNCTIONS:
        function = FUNCTIONS[called(node)]
        if function.returns is not None and ast.unparse(function.returns).startswith("str"):
            found = [n for n in ast.walk(function) if isinstance(n, ast.Return)]
            return [text for n in found for text in readings(n.value, [function], depth + 1)]
    return unknown


def joined(parts: Iterable[list[str]]) -> list[str]:
    texts = [""]
    for part in parts:
        texts = [text + one for text in texts for one in dict.fromkeys(part)][:50]
    return texts


def of_a_name(name: str, within: list[ast.FunctionDef], depth: int) -> list[str]:
    """What a name stands for: local variables, a constant, or what callers pass."""
    for function in reversed(within):
        values = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == name for t in node.targets)
        ]
        if values:
            return [text for value in values for text in readings(value, within, depth + 1)]
        places = [
            a.arg for a in [*function.args.posonlyargs, *function.args.args] if a.arg not in ("self", "cls")
        ]
        if name in places or name in [a.arg for a in function.args.kwonlyargs]:
            found: list[str] = []
            calls = CALLS.get(function.name, [])
            for call, around in calls if len(calls) < 20 else []:
                value = next((k.value for k in call.keywords if k.arg == name), None)
                if value is None and name in places and len(call.args) > places.index(name):
                    value = call.args[places.index(name)]
                if value is not None:
                    found += readings(value, around, depth + 1)
            return found
    return readings(CONSTANTS[name], [], depth + 1) if name in CONSTANTS else []


def is_error(name: str) -> bool:
    kind = getattr(builtins, name, None)
    return name.endswith("Error") or (isinstance(kind, type) and issubclass(kind, BaseException))


def of_own_words(tree: ast.AST) -> Iterator[tuple[ast.ClassDef, ast.Call]]:
    """The errors of the package that say themselves what they say, and where."""
    for kind in ast.walk(tree):
        if isinstance(kind, ast.ClassDef) and is_error(kind.name):
            for node in ast.walk(kind):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
                    yield kind, node


def messages() -> Iterator[tuple[str, str]]:
    """Where, and what: of every error that is made and every warning."""
    own = [found for tree in TREES.values() for found in of_own_words(tree)]
    raised = {node.exc for _, node, _ in NODES if isinstance(node, ast.Raise)}
    for path, node, within in NODES:
        first: ast.expr | None = None
        if isinstance(node, ast.Call) and node.args:
            name = called(node)
            if name in [kind.name for kind, _ in own] or (name == "OSError" and len(node.args) > 1):
                continue  # they have words of their own, and of the system
            said = ast.unparse(node.func) == "warnings.warn" or node in [call for _, call in own]
            if is_error(name) or node in raised or said:
                first = node.args[0]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.args":
            first = node.value.elts[0] if isinstance(node.value, ast.Tuple) else None
        for text in dict.fromkeys(readings(first, within)) if first is not None else ():
            yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text


def offences(text: str) -> Iterator[str]:
    """What of the dialect a message breaks."""
    if not text.endswith((".", "?")):
        yield "does not end with a full stop"
    first = text.split(maxsplit=1)[0]
    if first[0].islower() and first not in NAMES and not re.search(r"[_={.(]", first):
        yield "begins with neither a capital nor a name"
    if re.search(r"; got|\bGot\b|: got", text):
        yield "says got after something else than a comma"
    if re.search(r"\bmust\b|\bexpected\b|\bUnknown\b", text) and not re.search(r"\bgot\b", text):
        yield "does not say what it got"


ALL = sorted(set(messages()))


def test_there_are_messages():
    assert len(ALL) > 300


def test_one_dialect():
    own = [(where, text) for where, text in ALL if not text.startswith((*QUOTED, *SKLEARNS))]
    wrong = [f"{where}: {offence}: {text}" for where, text in own for offence in offences(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("prefix", [*QUOTED, *SKLEARNS])
def test_no_exception_is_left_over(prefix):
    assert any(text.startswith(prefix) for _, text in ALL)


@pytest.mark.parametrize(
    ("text", "offence"),
    [
        ("lr must be above 0, got 0", "full stop"),
        ("bad figures, got 0.", "capital"),
        ("lr must be above 0; got 0.", "comma"),
        ("lr must be above 0.", "what it got"),
        ("Unknown weighting: choose another.", "what it got"),
    ],
)
def test_what_breaks_it_is_found(text, offence):
    assert [found for found in offences(text) if offence in found]

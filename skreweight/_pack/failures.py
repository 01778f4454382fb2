"""What may go wrong with networks that are trained together, and whose fault it is."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

#: What a fit may end with that is not its own estimator's alone to settle: all that scikit-learn's searches survive.
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
#: Mistakes in code. What is wrong with data, values or a network that `torch.func.vmap` refuses, is of other kinds.
DEFECTS = (AssertionError, AttributeError, LookupError, NameError, TypeError)
#: Parts of the package in which a mistake is its own, not the user's module, loss or transformer at work.
OWN_PARTS = (
    "_composition.py",
    "_listener.py",
    "_net",
    "_pack",
    "_rows",
    "_training",
    "core",
    "model_selection",
)

_PACKAGE, _TORCH = Path(__file__).resolve().parents[1], Path(torch.__file__).resolve().parent


def is_own_defect(error: BaseException) -> bool:
    """Whether an error is a mistake of this package: one that it raised itself, torch's own frames left out."""
    if not isinstance(error, DEFECTS):
        return False
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    outside_torch = [file for file in files if not file.is_relative_to(_TORCH)]
    if not outside_torch or not outside_torch[-1].is_relative_to(_PACKAGE):
        return False
    return outside_torch[-1].relative_to(_PACKAGE).parts[0] in OWN_PARTS


def is_refusal(error: BaseException) -> bool:
    """Whether torch says that networks cannot be trained together: its errors are RuntimeErrors."""
    return type(error) is RuntimeError and not is_out_of_memory(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short: Python's, a GPU's or, which torch says in words alone, that of the CPU."""
    kinds = (MemoryError, torch.cuda.OutOfMemoryError)
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def first_line(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

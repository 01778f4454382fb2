"""What scales of logits are worth with two classes."""

from __future__ import annotations

import warnings

from torch import Tensor


def warn_of_two_classes(name: str, class_counts: Tensor) -> None:
    """Warn that scaling the logits does next to nothing where there are two classes."""
    if class_counts.shape[-1] == 2:
        warnings.warn(
            f"With two classes weighting {name!r} does next to nothing: the two logits are each other's negatives but "
            "for what the start left over, and a scale changes no sign. Use 'logit-adjustment' or 'crt'.",
            stacklevel=2,
        )

"""The allocator's heap, on which the tensors of a batch of many networks come and go."""

from __future__ import annotations

from functools import cache

import torch

#: The largest block that glibc takes as a hint (its DEFAULT_MMAP_THRESHOLD_MAX), less the block's own header.
LARGEST_HINT = 2**25 - 2**13


@cache
def keep_freed_memory() -> None:
    """Let the C library keep up to 64 MB of freed memory, where it would give it back to the system in every step.

    A batch of K networks takes blocks of megabytes; glibc returns those at the top of its heap to the system when
    they are freed, which then has to hand out and clear thousands of pages again: a fifth of a step of "ours" with
    16 networks. glibc raises the sizes from which it does so to those of the blocks it has seen freed, so that one
    large block, which nobody writes to, is enough. Other C libraries take no notice.
    """
    torch.empty(LARGEST_HINT, dtype=torch.uint8)

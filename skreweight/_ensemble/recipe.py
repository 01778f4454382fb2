"""The recipe for tables: networks, batches and schedule, chosen on us_crime, oil and sick_euthyroid.

The network and its schedule are RealMLP's (Holzmüller et al., "Better by default", 2024), the members and what stops
them are this package's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skreweight._classifier import ReweightedClassifier
from skreweight.modules import TableNet

LEARNING_RATE = 0.04
BATCH_SIZE = 128
#: Epochs, within limits of the number of steps.
N_EPOCHS, FEWEST_STEPS, MOST_STEPS = 40, 300, 700
#: How often a member is judged on its held-out rows.
N_LOOKS = 20
#: Dropout and label smoothing shrink where the rarest class has more rows than this.
FEW_RARE_ROWS = 250
DROPOUT, LABEL_SMOOTHING = 0.15, 0.1
#: What the members of each kind are trained on.
KINDS = ("natural", "balanced")


def n_steps_for(n_rows: int) -> int:
    """Return the number of optimiser steps for so many training rows."""
    per_epoch = max(1, n_rows // batch_size_for(n_rows))
    return int(np.clip(N_EPOCHS * per_epoch, FEWEST_STEPS, MOST_STEPS))


def batch_size_for(n_rows: int) -> int:
    """Return the size of a batch for so many training rows."""
    return min(BATCH_SIZE, n_rows)


def coslog4(share: float) -> float:
    """Return what multiplies the learning rate, four waves each twice as long as the one before.

    ½ (1 − cos(2π log₂(1 + 15 t))) for the share t of the training that is done.
    """
    return 0.5 * (1.0 - math.cos(2.0 * math.pi * math.log2(1.0 + 15.0 * share)))


def network(n_rarest: float, seed: int, device: Any, n_looks: int) -> ReweightedClassifier:
    """Return a member, not fitted.

    Parameters
    ----------
    n_rarest : float
        (Weighted) number of rows of the rarest class.
    seed : int
    device : str or torch.device
    n_looks : int
    """
    kept = min(1.0, FEW_RARE_ROWS / max(n_rarest, 1.0))
    return ReweightedClassifier(
        TableNet,
        module__n_numeric=0,  # rows come with cosines that need no training,
        module__clip=None,  # scaled and clipped in float64
        module__dropout=DROPOUT * kept,
        criterion__label_smoothing=LABEL_SMOOTHING * kept,
        weighting="none",
        warmup_epochs=n_looks,
        max_epochs=0,
        batch_size=BATCH_SIZE,
        lr=LEARNING_RATE,
        optimizer__betas=(0.9, 0.95),
        optimizer__param_groups=TableNet.param_groups(LEARNING_RATE),
        device=device,
        random_state=seed,
    )

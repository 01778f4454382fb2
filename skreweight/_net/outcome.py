"""What a training has come to, where it looks as if it had come to nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch import Tensor, nn

from skreweight._net.predict import not_finite, plain
from skreweight._net.predicting import PREDICTION_ROWS

#: A row of less weight, where 1 is what it has in the plain mean, does nothing.
SILENT_WEIGHT = 1e-6
#: From this share of such rows on the user is told.
LARGEST_SILENT_SHARE = 0.99
#: Outputs that differ by less, as a share of their size, are the same for all rows.
SMALLEST_SPREAD = 1e-5
#: A loss this near the entropy of the class shares, as a share of it, says that the rows told nothing.
NEAR_ENTROPY = 0.005
#: One so many times as large says that training is far from anything; in between it may be on its way.
FAR_ABOVE_ENTROPY = 2.0
#: A shorter stage 1 may well be on its way.
FEWEST_EPOCHS = 5

_FIX = (
    "Bring the columns of X to one scale (StandardScaler, QuantileTransformer, skreweight.modules.RobustScaling), or "
    "try another lr."
)


def ends_finite(net: NeuralNet, some: Callable[[int], Any], *, has_validation: bool) -> bool:
    """Whether the last step, which no later one looks at, left a network of use.

    It did not where a parameter, or an output on some of the rows, is not finite; where batches with such rows were
    to be skipped: on most of them.

    Parameters
    ----------
    net : ReweightedClassifier
    some : callable (n) -> features or None
        Of the first training rows, up to n; None where they cannot be had.
    has_validation : bool
        Whether the network was looked at on validation rows after the last step of each epoch.
    """
    if not net.history:
        return True
    finite = all(bool(p.isfinite().all()) for p in net.module_.parameters() if p.requires_grad)
    if has_validation:
        best = net.progress_.best
        losses = net.history[-1].get("valid_loss", 0.0) if best.loss is None else best.loss
        finite &= bool(torch.as_tensor(losses).isfinite().all())
    elif finite and (x := some(PREDICTION_ROWS)) is not None:
        with torch.no_grad(), net.progress_.drawing(torch.device(net.device)):
            outputs = net.infer(x)
        bad = not_finite(outputs[0] if isinstance(outputs, tuple | list) else outputs)
        finite = bool(bad.double().mean() <= (0 if net.on_nonfinite == "raise" else 0.5))
    return finite


def warn_of_outcome(net: NeuralNet, some: Callable[[int], Any]) -> None:
    """Warn of a finished training that has done next to nothing.

    Parameters
    ----------
    net : ReweightedClassifier
        In evaluation mode.
    some : callable (n) -> features or None
        As `ends_finite` takes it.
    """
    _warn_of_silent_rows(net)
    # Who learns something ends below the loss of predicting the class shares: only others are looked at.
    losses = [
        row["train_loss"] for row in net.history if "train_loss" in row
    ]  # a loaded last one may have none
    if len(losses) < FEWEST_EPOCHS or losses[-1] < 0.9 * _entropy(net):
        return
    if (x := some(PREDICTION_ROWS)) is not None and isinstance(x, Tensor) and _is_constant(net, x):
        warnings.warn(
            f"The network gives the same outputs for all of {len(x)} training rows, so that every prediction is the "
            f"same. {_FIX}",
            stacklevel=4,
        )
    else:
        _warn_of_entropy(net)


def _warn_of_silent_rows(net: NeuralNet) -> None:
    """Warn where next to no row had a weight in the last epoch: most batches then did nothing."""
    method = net.weighting_
    stored, meant = method.stored_weights is not None, method.weights_of_untouched_rows() == 0
    if stored or meant or net.__dict__.get("stage_") != 2:
        return
    trained = net.example_weights_[~np.isnan(net.example_weights_)]
    share = float((trained < SILENT_WEIGHT).mean())
    if share >= LARGEST_SILENT_SHARE:
        advice = "raise weighting__lam" if "lam" in method.get_params() else "look at example_weights_"
        warnings.warn(
            f"{share:.1%} of the training rows had a weight of next to 0 in the last epoch, which sum to "
            f"{trained.sum():.3g} of {len(trained)}: {type(method).__name__} trained on next to nothing; {advice}.",
            stacklevel=5,
        )


@torch.no_grad()
def _is_constant(net: NeuralNet, x: Tensor) -> bool:
    """Whether rows that differ have outputs that do not."""
    if len(x) < 2 or bool((x == x[:1]).all()):
        return False
    outputs = net.infer(x)
    outputs = outputs[0] if isinstance(outputs, tuple | list) else outputs
    spread = outputs.amax(0) - outputs.amin(0)
    return bool((spread <= SMALLEST_SPREAD * outputs.abs().amax()).all())


def _entropy(net: NeuralNet) -> float:
    """−Σ_c p_c log p_c of the class shares, the loss of predicting them for every row."""
    counts = net.class_counts_
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _warn_of_entropy(net: NeuralNet) -> None:
    """Warn where stage 1 has come to the loss of predicting the class shares, or to one far above."""
    losses = [row["train_loss"] for row in net.history if row.get("stage") == 1 and "train_loss" in row]
    criterion = plain(net.criterion_)
    is_plain = (
        type(criterion) is nn.CrossEntropyLoss and criterion.weight is None and not criterion.label_smoothing
    )
    weighed = net.class_weight is not None and not net.defer_class_weight
    drawn = net.sampling is not None and not net.defer_sampling
    if len(losses) < FEWEST_EPOCHS or not is_plain or weighed or drawn:
        return
    entropy = _entropy(net)
    if abs(losses[-1] - entropy) <= NEAR_ENTROPY * entropy or losses[-1] >= FAR_ABOVE_ENTROPY * entropy:
        warnings.warn(
            f"Stage 1 ended with a loss of {losses[-1]:.4g}; predicting the class shares for every row has one of "
            f"{entropy:.4g}, their entropy. The network has learned nothing of X. {_FIX}",
            stacklevel=5,
        )

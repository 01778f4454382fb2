"""Scales of the input, taken from the training rows by the network's own first layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skreweight._rows.check import is_dataset, stack_items
from skreweight._rows.place import Given
from skreweight.modules import RobustScaling
from skreweight.modules._layered import Layered

#: Scales come from all training rows, or from evenly spread ones: so many bytes of them, but at least so many.
MOST_BYTES = 2**22
FEWEST_ROWS = 4096

#: Medians and scales that rows have given, by the rows and the layers: networks of one search ask again and again.
Scales = dict[Any, list[tuple[Tensor, Tensor]]]


def fit_scaling(module: nn.Module, given: Given, known: Scales) -> None:
    """Let a network with a method ``fit_scaling`` and scales that were never fitted take them from the training rows.

    Parameters
    ----------
    module : torch.nn.Module
    given : Given
        Alive for as long as `known` is.
    known : Scales
        Asked first, and added to.
    """
    own: Any = getattr(module, "_orig_mod", module)
    layers = [layer for layer in own.modules() if isinstance(layer, RobustScaling)]
    if not hasattr(own, "fit_scaling") or any(layer.is_fitted for layer in layers):
        return
    # A method of a class's own may do more than fit its layers.
    alike = type(own).fit_scaling is Layered.fit_scaling
    key = (id(given), *((layer.n_features, layer.scale.dtype, layer.scale.device) for layer in layers))
    if alike and key in known:
        for layer, (median, scale) in zip(layers, known[key], strict=True):
            layer.median, layer.scale = median.clone(), scale.clone()
        return
    features, rows = given.labelled.features, given.trained
    n_most = FEWEST_ROWS
    if isinstance(features, Tensor):
        n_most = max(n_most, MOST_BYTES // max(1, features[0].nbytes))
    elif not is_dataset(features):
        return
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), n_most)).round().astype(int)]
    own.fit_scaling(features[some] if isinstance(features, Tensor) else stack_items(features, some))
    if len(some) < len(rows):
        with torch.no_grad():
            for layer in layers:  # a column that does not vary among these may do so elsewhere
                layer.scale.masked_fill_(layer.scale == 0, 1.0)
    if alike:
        known[key] = [(layer.median.clone(), layer.scale.clone()) for layer in layers]

"""What ``save_params(f_weighting=...)`` stores: all that `partial_fit` needs to go on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from skreweight._schedules import schedules_of

if TYPE_CHECKING:
    from skreweight._classifier import ReweightedClassifier


class ResumeState:
    """State of the weighting, progress, schedules and what was learned of X and y, as plain values and tensors.

    It holds nothing that ``torch.load(weights_only=True)`` refuses, so that loading runs no code.

    Parameters
    ----------
    net : ReweightedClassifier
        Initialised.
    """

    def __init__(self, net: ReweightedClassifier) -> None:
        self.net = net

    def state_dict(self) -> dict[str, Any]:
        """Return the state for saving."""
        net = self.net
        return {
            "method": type(net.weighting_).__name__,
            "weighting": net.weighting_.state_dict() if hasattr(net.weighting_, "state_") else None,
            "progress": net.progress_.state_dict(),
            "schedules": schedules_of(net),
            "learned": _learned_by(net),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved state.

        Raises
        ------
        ValueError
            Where it is that of another method.
        """
        net = self.net
        method = type(net.weighting_).__name__
        if state["method"] != method:
            raise ValueError(
                f"The file holds the state of weighting {state['method']}, the estimator has {method}: "
                "set weighting to the one that was saved."
            )
        learn(net, state)
        if state["weighting"] is not None:
            device = torch.device(net.device)
            net.weighting_.load_state_dict({k: v.to(device) for k, v in state["weighting"].items()})
        net.progress_.load_state_dict(state["progress"])
        net.progress_.schedules = dict(state["schedules"])
        _refresh_example_weights(net)


def learn(net: ReweightedClassifier, state: Mapping[str, Any]) -> None:
    """Take over what the saved estimator had learned of X and y: classes, columns, weights."""
    learned = state["learned"]
    if learned["classes"] is not None:
        net.classes_inferred_ = np.asarray(learned["classes"], dtype=learned["classes_dtype"])
    if learned["n_features_in"] is not None:
        net.n_features_in_ = learned["n_features_in"]
    if learned["feature_names_in"] is not None:
        net.feature_names_in_ = np.asarray(learned["feature_names_in"], dtype=object)
    for name in ("class_counts", "validation_indices", "example_weights"):
        if learned[name] is not None:
            setattr(net, f"{name}_", learned[name].cpu().numpy())


def _learned_by(net: ReweightedClassifier) -> dict[str, Any]:
    learned = net.__dict__
    classes, columns = learned.get("classes_inferred_"), learned.get("feature_names_in_")
    arrays = {
        name: None if learned.get(f"{name}_") is None else torch.from_numpy(learned[f"{name}_"])
        for name in ("class_counts", "validation_indices", "example_weights")
    }
    if net._answers_in_codes:  # in the middle of training they are still those of an earlier fit
        arrays["example_weights"] = None
    return {
        "classes": None if classes is None else _plain_list(classes),
        "classes_dtype": None if classes is None else classes.dtype.str,
        "n_features_in": learned.get("n_features_in_"),
        "feature_names_in": None if columns is None else _plain_list(columns),
        **arrays,
    }


def _plain_list(array: np.ndarray[Any, Any]) -> list[Any]:
    return [value.item() if isinstance(value, np.generic) else value for value in array.tolist()]


def _refresh_example_weights(net: ReweightedClassifier) -> None:
    """Bring the figures a fit has left into line with the stored weights just loaded."""
    stored = net.weighting_.state_dict().get("weights") if hasattr(net.weighting_, "state_") else None
    figures = net.__dict__.get("example_weights_")
    if stored is None or figures is None or len(stored) < len(figures):
        return
    current = stored.detach().cpu().double().numpy()[: len(figures)]
    net.example_weights_ = np.where(np.isnan(figures), np.nan, current)

"""What ``save_params(f_weighting=...)`` stores: all that `partial_fit` needs to go on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from skreweight._classifier import ReweightedClassifier


class ResumeState:
    """State of the weighting, progress and labels as one dict of plain values and tensors.

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
        learned = net.__dict__
        return {
            "weighting": net.weighting_.state_dict() if hasattr(net.weighting_, "state_") else {},
            "progress": net.progress_.state_dict(),
            "classes": learned["classes_inferred_"].tolist() if "classes_inferred_" in learned else None,
            "n_features_in": learned.get("n_features_in_"),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved state."""
        net = self.net
        if state["weighting"]:
            device = torch.device(net.device)
            net.weighting_.load_state_dict({k: v.to(device) for k, v in state["weighting"].items()})
        net.progress_.load_state_dict(state["progress"])
        if state["classes"] is not None:
            net.classes_inferred_ = np.asarray(state["classes"])
        if state["n_features_in"] is not None:
            net.n_features_in_ = state["n_features_in"]

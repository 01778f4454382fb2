"""The τ-normalised classifier (Kang et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from skreweight.core.output_layer import OutputLayer
from skreweight.weighting._base import NewState, Trained
from skreweight.weighting._correction import PostHoc
from skreweight.weighting._parameters import flag, hyperparameters, number
from skreweight.weighting._two_classes import warn_of_two_classes


@hyperparameters
class TauNormalization(PostHoc):
    """Train with the plain loss, then divide each class's weight vector by a power of its length.

    Both stages are those of ``"none"``, every w_i is 1/B. With the last layer z = W φ + b and its rows w_c,
    predictions come from

        z'_c = w_cᵀφ/‖w_c‖^τ = (z_c − b_c)/‖w_c‖^τ.

    This presumes that ‖w_c‖ grows with the number of rows of a class, which is a habit of SGD with weight decay; under
    Adam without it the lengths are often the other way round, and τ > 0 does harm. With two classes it does next to
    nothing: w_0 and w_1 are each other's negatives but for what the start left over.

    Parameters
    ----------
    tau : float or None, default=None
        τ. None: the one in 0, 0.1, …, 2 with the best mean of the classes' accuracies on the validation rows.
    keep_bias : bool, default=False
        Scale the bias along with the weights, instead of leaving it out as the authors do (at τ = 0 too).

    Attributes
    ----------
    state_ : dict
        ``"logit_scale"``, ‖w_c‖^−τ, ``"logit_shift"``, −b_c‖w_c‖^−τ or 0, and ``"tau"``, NaN until training has
        ended.

    References
    ----------
    Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis. Decoupling representation and classifier for long-tailed
    recognition. ICLR 2020.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("tau-norm", tau=0.7)
    TauNormalization(tau=0.7)
    """

    needs_validation = True
    works_on_shares = True
    needs_classifier = True

    tau: float | None = number(None, at_least=0)
    keep_bias: bool = flag(False)

    def check_classifier(self, layer: OutputLayer) -> None:
        """Raise a ValueError where the module's output is not W φ + b with a row of W for each class."""
        if not layer.is_affine or layer.n_outputs < 2:
            what = "its output is not that of the module" if layer.n_outputs > 1 else "it has one output"
            raise ValueError(
                f"weighting 'tau-norm' divides the rows of the last layer's weight by their length, which "
                f"{layer.name!r} does not allow: {what} as W φ + b with a row of W for each class. Let the module end "
                "with a torch.nn.Linear, or use weighting 'logit-adjustment'."
            )

    def start(self, new: NewState) -> None:
        """Correct nothing yet."""
        warn_of_two_classes("tau-norm", new.class_counts)
        super().start(new)

    def finish(self, trained: Trained) -> None:
        """Compute ‖w_c‖^−τ, and what takes the bias out."""
        weight, bias = trained.classifier()
        lengths = torch.linalg.vector_norm(weight, dim=-1).clamp(
            min=torch.finfo(weight.dtype).tiny
        )  # (*M, C)
        left_out = torch.zeros_like(lengths) if bias is None or self.keep_bias else bias

        def normalised(logits: Tensor, tau: float) -> Tensor:
            return (logits - left_out.unsqueeze(-2)) * (lengths**-tau).unsqueeze(-2)

        scale = lengths ** -self.strength(trained, normalised)
        if not bool(scale.isfinite().all()):
            raise ValueError(f"weighting__tau={self.tau} gives factors that are not finite: lower it.")
        self.state_["logit_scale"], self.state_["logit_shift"] = scale, -left_out * scale

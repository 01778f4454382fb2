"""The rows with the largest losses: online hard example mining, conditional value at risk."""

from __future__ import annotations

from torch import Tensor, where

from skreweight.weighting._base import Weighting
from skreweight.weighting._parameters import hyperparameters, number
from skreweight.weighting._step import Step


@hyperparameters
class TopLoss(Weighting):
    """Train on the share of each batch with the largest losses.

    The weights of the batch that sum to 1 and give the largest loss while none is above 1/(keep · B): the conditional
    value at risk,

        w = argmax Σ_i w_i f_i   over Σ_i w_i = 1, 0 ≤ w_i ≤ 1/(keep · B).

    So the keep · B rows with the largest losses weigh the same and the others 0 (online hard example mining); where
    that is no whole number, or losses are equal, the rows at the edge share what is left.

    Parameters
    ----------
    keep : float in (0, 1], default=0.2
        Share of the batch; 1 is the plain mean.

    References
    ----------
    Shrivastava, Gupta, Girshick (2016). Training region-based object detectors with online hard example mining. CVPR.

    Levy, Carmon, Duchi, Sidford (2020). Large-scale methods for distributionally robust optimization. NeurIPS.

    Examples
    --------
    >>> from skreweight.weighting import get_weighting
    >>> get_weighting("top-loss", keep=0.1)
    TopLoss(keep=0.1)
    """

    keep: float = number(0.2, above=0, at_most=1)

    def weigh(self, step: Step) -> Tensor:
        """Return 1/(keep · B) for the rows above the edge."""
        f = step.losses
        size = step.counted(f.new_ones(f.shape))
        room = self.keep * step.sum(size)  # (*M, 1)
        ordered, order = f.sort(-1, descending=True)
        filled = size.gather(-1, order).cumsum(-1)
        edge = ordered.gather(-1, (filled < room).sum(-1, keepdim=True).clamp(max=step.size - 1))
        at_edge = f == edge
        above = where(f > edge, size, 0.0)
        left = (room - step.sum(above)).clamp(min=0) / step.sum(where(at_edge, size, 0.0))
        return where(at_edge, left * size, above) / room

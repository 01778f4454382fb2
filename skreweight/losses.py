r"""Per-example losses for imbalanced classes, and class weights by class frequency.

Each criterion is a :class:`torch.nn.Module` called like :class:`torch.nn.CrossEntropyLoss` — logits of shape
``(B, C)``, integer targets of shape ``(B,)`` — and a thin shell over a function of the same name that always
returns one loss per row. Notation: :math:`z` the logits of a row, :math:`y` its class, :math:`p` the softmax
probability of that class, :math:`n_c` the training rows of class :math:`c`, :math:`C` the number of classes.
"""

import math
from collections.abc import Callable
from numbers import Real

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "BalancedSoftmaxLoss",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "class_weights",
    "effective_number_weights",
    "focal_loss",
    "ldam_loss",
    "ldam_margins",
    "log_class_priors",
    "logit_adjusted_loss",
    "normalize_logits",
]

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda losses: losses,
    "mean": torch.mean,
    "sum": torch.sum,
}


def focal_loss(logits: Tensor, target: Tensor, gamma: float | Tensor = 2.0) -> Tensor:
    r"""Focal loss :math:`-(1 - p)^\gamma \log p` of every row.

    Lin et al., "Focal Loss for Dense Object Detection" (2017), eq. 4. Confident rows (p near 1) count less,
    the more so the larger :math:`\gamma`; :math:`\gamma = 0` is the cross-entropy.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Unnormalised scores, floating point, C >= 2.
    target : Tensor of shape (B,)
        Class indices in [0, C), int64.
    gamma : float or Tensor broadcastable to (B,), default=2.0
        The focusing exponent, >= 0.

    Returns
    -------
    Tensor of shape (B,)
        The losses, in the dtype of the logits (at least float32).

    Raises
    ------
    ValueError
        If the shapes are not (B, C) and (B,), or C < 2.

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import focal_loss
    >>> focal_loss(torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 0]), gamma=2.0)
    tensor([0.1733, 0.0001])
    """
    logits = _checked_logits(logits, target)
    # Everything follows from the log-odds against the target, a = log((1 - p) / p): neither p nor 1 - p is
    # formed, so that (1 - p)^gamma keeps a finite gradient, and its digits, where p rounds to 1.
    others = torch.logsumexp(logits.masked_fill(_target_mask(logits, target), -math.inf), dim=1)
    log_odds = others - logits.gather(1, target.unsqueeze(1)).squeeze(1)
    log_p = functional.logsigmoid(-log_odds)
    log_one_minus_p = functional.logsigmoid(log_odds)
    return -torch.exp(gamma * log_one_minus_p) * log_p


def ldam_margins(class_counts: Tensor, max_margin: float = 0.5, exponent: float = 0.25) -> Tensor:
    r"""Class margins :math:`\Delta_c \propto n_c^{-e}`, scaled so that the largest is ``max_margin``.

    Cao et al., "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss" (2019), with the
    exponent :math:`e = 1/4` that their generalisation bound gives.

    Parameters
    ----------
    class_counts : Tensor of shape (C,)
        Training rows per class, all positive.
    max_margin : float, default=0.5
        The margin of the rarest class.
    exponent : float, default=0.25
        The power :math:`e` of the class counts.

    Returns
    -------
    Tensor of shape (C,)
        The margins, in the dtype of the counts (the default float dtype for integer counts).

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import ldam_margins
    >>> ldam_margins(torch.tensor([1600, 100]))
    tensor([0.2500, 0.5000])
    """
    return max_margin * (class_counts / class_counts.min()).pow(-exponent)


def ldam_loss(logits: Tensor, target: Tensor, margins: Tensor, scale: float | Tensor = 30.0) -> Tensor:
    r"""Cross-entropy of every row after its target's logit gave up the margin of its class.

    :math:`-\log \mathrm{softmax}(s\,(z - \Delta_y e_y))_y` with :math:`e_y` the unit vector of the target:
    the LDAM loss of Cao et al. (2019), with the scale :math:`s` of their published code.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Cosines of a normalised last layer (:class:`skreweight.modules.NormedLinear`), or logits that went
        through :func:`normalize_logits`; floating point, C >= 2.
    target : Tensor of shape (B,)
        Class indices in [0, C), int64.
    margins : Tensor of shape (C,)
        One margin per class, as :func:`ldam_margins` gives.
    scale : float or Tensor broadcastable to (B, C), default=30.0
        What the logits are multiplied by after the margin was taken off.

    Returns
    -------
    Tensor of shape (B,)
        The losses, in the dtype of the logits (at least float32).

    Raises
    ------
    ValueError
        If the shapes are not (B, C), (B,) and (C,), or C < 2.

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import ldam_loss
    >>> logits = torch.tensor([[0.6, 0.5], [0.6, 0.5]])
    >>> ldam_loss(logits, torch.tensor([0, 0]), torch.tensor([0.1, 0.5]))
    tensor([0.6931, 0.6931])
    """
    logits = _checked_logits(logits, target, per_class=margins)
    with_margin = torch.where(_target_mask(logits, target), logits - margins.to(logits.dtype), logits)
    return functional.cross_entropy(scale * with_margin, target, reduction="none")


def normalize_logits(logits: Tensor, tau: float | Tensor = 1.0) -> Tensor:
    r"""Divide every row of logits by its Euclidean norm to the power :math:`\tau`.

    What the published ABSGD code does to the logits before :func:`ldam_loss` where the network has no
    normalised last layer. A row of zeros stays zero.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Unnormalised scores, floating point.
    tau : float or Tensor broadcastable to (B, 1), default=1.0
        The power of the norm; 1 puts every row on the unit sphere.

    Returns
    -------
    Tensor of shape (B, C)
        The scaled logits.

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import normalize_logits
    >>> normalize_logits(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    squared_norms = logits.square().sum(dim=-1, keepdim=True)
    # A row of zeros has no direction: divided by 1, it and all its derivatives stay finite.
    squared_norms = torch.where(squared_norms > 0, squared_norms, 1.0)
    return logits / squared_norms.pow(tau / 2)


def log_class_priors(class_counts: Tensor) -> Tensor:
    r"""Logarithm :math:`\log \pi_c` of the share :math:`\pi_c` that every class has of the training rows.

    Parameters
    ----------
    class_counts : Tensor of shape (C,)
        Training rows per class, all positive.

    Returns
    -------
    Tensor of shape (C,)
        The logarithms, in the dtype of the counts (the default float dtype for integer counts).

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import log_class_priors
    >>> log_class_priors(torch.tensor([50, 50]))
    tensor([-0.6931, -0.6931])
    """
    return torch.log(class_counts / class_counts.sum())


def logit_adjusted_loss(
    logits: Tensor, target: Tensor, log_priors: Tensor, tau: float | Tensor = 1.0
) -> Tensor:
    r"""Cross-entropy of :math:`z + \tau \log \pi`, for every row.

    Menon et al., "Long-tail learning via logit adjustment" (2021), eq. 10. A network trained with it predicts
    by :math:`\arg\max z`, without the adjustment.

    Parameters
    ----------
    logits : Tensor of shape (B, C)
        Unnormalised scores, floating point, C >= 2.
    target : Tensor of shape (B,)
        Class indices in [0, C), int64.
    log_priors : Tensor of shape (C,)
        :math:`\log \pi`, as :func:`log_class_priors` gives; a constant added to it changes nothing.
    tau : float or Tensor broadcastable to (B, C), default=1.0
        The strength of the adjustment; 0 is the cross-entropy.

    Returns
    -------
    Tensor of shape (B,)
        The losses, in the dtype of the logits (at least float32).

    Raises
    ------
    ValueError
        If the shapes are not (B, C), (B,) and (C,), or C < 2.

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import logit_adjusted_loss
    >>> log_priors = torch.tensor([0.75, 0.25]).log()
    >>> logit_adjusted_loss(torch.zeros(2, 2), torch.tensor([0, 1]), log_priors)
    tensor([0.2877, 1.3863])
    """
    logits = _checked_logits(logits, target, per_class=log_priors)
    adjusted = logits + tau * log_priors.to(logits.dtype)
    return functional.cross_entropy(adjusted, target, reduction="none")


class _PerExampleCriterion(nn.Module):
    """Base of the criteria: ``per_example`` gives the losses of the rows, ``reduction`` what is returned."""

    def __init__(self, reduction: str) -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            raise ValueError(f'reduction must be "none", "mean" or "sum", got {reduction!r}.')
        self.reduction = reduction

    def per_example(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every row, shape (B,), whatever ``reduction`` says.

        Parameters
        ----------
        logits : torch.Tensor of shape (B, C)
        target : torch.Tensor of shape (B,), int64
            Class codes from 0 to C - 1.
        """
        raise NotImplementedError

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the class probabilities, shape (B, C), that a network trained with this loss predicts.

        Parameters
        ----------
        logits : torch.Tensor of shape (B, C)
        """
        return torch.softmax(logits, dim=1)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the losses of shape (B,), their mean or their sum, as ``reduction`` says.

        Parameters
        ----------
        logits : torch.Tensor of shape (B, C)
        target : torch.Tensor of shape (B,), int64
            Class codes from 0 to C - 1.
        """
        return _REDUCTIONS[self.reduction](self.per_example(logits, target))


class FocalLoss(_PerExampleCriterion):
    r"""Focal loss :math:`-(1 - p)^\gamma \log p` (Lin et al. 2017, eq. 4).

    Parameters
    ----------
    gamma : float, default=2.0
        The focusing exponent, >= 0; 0 is the cross-entropy. Qi et al.'s experiments with ABSGD use 1.
    reduction : {"none", "mean", "sum"}, default="mean"
        What `forward` returns of the losses of a batch.

    Raises
    ------
    ValueError
        If ``gamma`` is negative or not finite, or ``reduction`` unknown.

    Notes
    -----
    The published ABSGD code combines focal loss and class weights in another order than one would guess: it
    takes :math:`p = e^{-w_y\,\mathrm{CE}}` from the class-weighted cross-entropy, so that its loss is
    :math:`(1 - e^{-w_y \mathrm{CE}})^\gamma\, w_y \mathrm{CE}` instead of
    :math:`w_y (1 - p)^\gamma\, \mathrm{CE}`. Here :math:`p` is the model's probability, always, and class
    weights multiply the finished loss.

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import FocalLoss
    >>> criterion = FocalLoss(gamma=2.0, reduction="none")
    >>> criterion(torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 0]))
    tensor([0.1733, 0.0001])
    """

    def __init__(self, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.gamma = _checked_number(gamma, "gamma")

    def per_example(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the focal loss of every row, shape (B,)."""
        return focal_loss(logits, target, self.gamma)

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"gamma={self.gamma}, reduction={self.reduction!r}"


class LDAMLoss(_PerExampleCriterion):
    r"""Label-distribution-aware margin loss (Cao et al. 2019).

    :math:`-\log \mathrm{softmax}(s\,(z - \Delta_y e_y))_y` with margins :math:`\Delta_c \propto n_c^{-e}`,
    the largest of them ``max_margin``: the rarer a class, the further its rows must lie from the boundary.
    Meant for logits that are cosines: use ``normalized_head=True`` in the networks of
    :mod:`skreweight.modules`, or ``tau=1.0`` with any other network.

    Parameters
    ----------
    class_counts : array-like of shape (C,)
        :math:`n_c`, training rows per class, all positive.
    max_margin : float, default=0.5
        The margin of the rarest class, >= 0.
    scale : float, default=30.0
        :math:`s`, what the logits are multiplied by after the margin was taken off, > 0.
    exponent : float, default=0.25
        :math:`e`, >= 0. Qi et al. write 2/5, but their code and that of Cao et al. use 1/4.
    tau : float, default=0.0
        Where not 0, every row of logits is divided by its Euclidean norm to this power first, as the
        published ABSGD code does; gradients flow through the norm.
    reduction : {"none", "mean", "sum"}, default="mean"
        What `forward` returns of the losses of a batch.

    Attributes
    ----------
    class_counts : Tensor of shape (C,)
        The counts, a persistent buffer: int64 for whole numbers, float64 otherwise.

    Raises
    ------
    ValueError
        If a count is not positive and finite, a number out of its range, or ``reduction`` unknown.

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import LDAMLoss
    >>> criterion = LDAMLoss(class_counts=[1600, 100], reduction="none")
    >>> criterion(torch.tensor([[0.75, 0.5], [0.5, 1.0]]), torch.tensor([0, 1]))
    tensor([0.6931, 0.6931])
    """

    class_counts: Tensor

    def __init__(
        self,
        class_counts: ArrayLike | Tensor,
        max_margin: float = 0.5,
        scale: float = 30.0,
        exponent: float = 0.25,
        tau: float = 0.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("class_counts", _positive_counts(class_counts))
        self.max_margin = _checked_number(max_margin, "max_margin")
        self.scale = _checked_number(scale, "scale", zero=False)
        self.exponent = _checked_number(exponent, "exponent")
        self.tau = _checked_number(tau, "tau")

    def per_example(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the LDAM loss of every row, shape (B,)."""
        logits = self._normalized(logits)
        # From the counts each time, so that the counts are all the state there is and the margins have the
        # precision and the device of the logits.
        margins = ldam_margins(self.class_counts.to(logits.dtype), self.max_margin, self.exponent)
        return ldam_loss(logits, target, margins, self.scale)

    def probabilities(self, logits: Tensor) -> Tensor:
        r"""Return :math:`\mathrm{softmax}(s z)`, shape (B, C), with `tau`'s normalisation: no margin."""
        return torch.softmax(self.scale * self._normalized(logits), dim=1)

    def _normalized(self, logits: Tensor) -> Tensor:
        logits = _at_least_float32(logits)
        return normalize_logits(logits, self.tau) if self.tau else logits

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return (
            f"class_counts={self.class_counts.tolist()}, max_margin={self.max_margin}, scale={self.scale}, "
            f"exponent={self.exponent}, tau={self.tau}, reduction={self.reduction!r}"
        )


class LogitAdjustedLoss(_PerExampleCriterion):
    r"""Cross-entropy of :math:`z + \tau \log \pi` (Menon et al. 2021, eq. 10).

    The training prior :math:`\pi_c = n_c / \sum_k n_k` is added in training only: the network predicts with
    its plain logits, which are then those of a balanced prior.

    Parameters
    ----------
    class_counts : array-like of shape (C,)
        :math:`n_c`, training rows per class (or their shares :math:`\pi`), all positive.
    tau : float, default=1.0
        The strength of the adjustment, >= 0; 0 is the cross-entropy.
    reduction : {"none", "mean", "sum"}, default="mean"
        What `forward` returns of the losses of a batch.

    Attributes
    ----------
    class_counts : Tensor of shape (C,)
        The counts, a persistent buffer: int64 for whole numbers, float64 otherwise.

    Raises
    ------
    ValueError
        If a count is not positive and finite, ``tau`` negative or not finite, or ``reduction`` unknown.

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import LogitAdjustedLoss
    >>> criterion = LogitAdjustedLoss(class_counts=[75, 25], reduction="none")
    >>> criterion(torch.zeros(2, 2), torch.tensor([0, 1]))
    tensor([0.2877, 1.3863])
    """

    class_counts: Tensor

    def __init__(self, class_counts: ArrayLike | Tensor, tau: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("class_counts", _positive_counts(class_counts))
        self.tau = _checked_number(tau, "tau")

    def per_example(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the logit-adjusted loss of every row, shape (B,)."""
        logits = _at_least_float32(logits)
        return logit_adjusted_loss(
            logits, target, log_class_priors(self.class_counts.to(logits.dtype)), self.tau
        )

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"class_counts={self.class_counts.tolist()}, tau={self.tau}, reduction={self.reduction!r}"


class BalancedSoftmaxLoss(LogitAdjustedLoss):
    r"""Cross-entropy of :math:`z + \log n` (Ren et al., "Balanced Meta-Softmax", 2020).

    The same as :class:`LogitAdjustedLoss` with :math:`\tau = 1`: counts and shares differ by a constant
    that the softmax does not see. Here under the name that its paper gave it.

    Parameters
    ----------
    class_counts : array-like of shape (C,)
        :math:`n_c`, training rows per class, all positive.
    reduction : {"none", "mean", "sum"}, default="mean"
        What `forward` returns of the losses of a batch.

    Attributes
    ----------
    class_counts : Tensor of shape (C,)
        The counts, a persistent buffer: int64 for whole numbers, float64 otherwise.

    Raises
    ------
    ValueError
        If a count is not positive and finite, or ``reduction`` unknown.

    Examples
    --------
    >>> import torch
    >>> from skreweight.losses import BalancedSoftmaxLoss
    >>> criterion = BalancedSoftmaxLoss(class_counts=[75, 25], reduction="none")
    >>> criterion(torch.zeros(2, 2), torch.tensor([0, 1]))
    tensor([0.2877, 1.3863])
    """

    def __init__(self, class_counts: ArrayLike | Tensor, reduction: str = "mean") -> None:
        super().__init__(class_counts, tau=1.0, reduction=reduction)


def effective_number_weights(class_counts: ArrayLike | Tensor, beta: float = 0.9999) -> Tensor:
    r"""Class weights :math:`(1 - \beta) / (1 - \beta^{n_c})`, scaled to sum to the number of classes.

    Cui et al., "Class-Balanced Loss Based on Effective Number of Samples" (2019).
    :math:`\beta = 0` weighs all classes the same, :math:`\beta \to 1` by inverse frequency.

    Parameters
    ----------
    class_counts : array-like of shape (C,)
        :math:`n_c`, training rows per class, not negative.
    beta : float, default=0.9999
        :math:`\beta`, in [0, 1).

    Returns
    -------
    Tensor of shape (C,)
        The weights in float64. A class without a row has weight 0, and the others share its part.

    Raises
    ------
    ValueError
        If a count is negative or not finite, all are zero, or ``beta`` is outside [0, 1).

    Examples
    --------
    >>> from skreweight.losses import effective_number_weights
    >>> effective_number_weights([900, 100, 0], beta=0.99)
    tensor([1.1640, 1.8360, 0.0000], dtype=torch.float64)
    """
    counts = _checked_counts(class_counts).double()
    check_scalar(beta, "beta", Real, min_val=0, max_val=1, include_boundaries="left")
    # expm1 keeps the digits of 1 - beta^n where beta is next to 1; the factor 1 - beta drops out in scaling.
    log_beta = math.log(beta) if beta > 0 else -math.inf
    return _scaled_inverse(-torch.expm1(counts * log_beta), counts)


def class_weights(
    class_counts: ArrayLike | Tensor,
    scheme: str = "inverse",
    beta: float = 0.9999,
) -> Tensor:
    r"""Class weights by class frequency, scaled to a mean of 1 over the classes.

    ==================== ==================================================================
    ``scheme``           weight of class c, before scaling
    ==================== ==================================================================
    ``inverse``          :math:`1 / n_c`
    ``inverse-sqrt``     :math:`1 / \sqrt{n_c}`
    ``effective-number`` :math:`(1 - \beta) / (1 - \beta^{n_c})`, see
                         :func:`effective_number_weights`
    ==================== ==================================================================

    Parameters
    ----------
    class_counts : array-like of shape (C,)
        :math:`n_c`, training rows per class, not negative.
    scheme : {"inverse", "inverse-sqrt", "effective-number"}, default="inverse"
        The formula.
    beta : float, default=0.9999
        :math:`\beta` of ``"effective-number"``, in [0, 1).

    Returns
    -------
    Tensor of shape (C,)
        The weights in float64; their sum is C. A class without a row has weight 0, and the others share its
        part.

    Raises
    ------
    ValueError
        If a count is negative or not finite, all are zero, ``scheme`` is unknown or ``beta`` outside [0, 1).

    Examples
    --------
    >>> from skreweight.losses import class_weights
    >>> class_weights([90, 10])
    tensor([0.2000, 1.8000], dtype=torch.float64)
    """
    if scheme == "effective-number":
        return effective_number_weights(class_counts, beta)
    counts = _checked_counts(class_counts).double()
    if scheme == "inverse":
        return _scaled_inverse(counts, counts)
    if scheme == "inverse-sqrt":
        return _scaled_inverse(counts.sqrt(), counts)
    raise ValueError(f'scheme must be "inverse", "inverse-sqrt" or "effective-number", got {scheme!r}.')


def _scaled_inverse(sizes: Tensor, counts: Tensor) -> Tensor:
    """Return 1 / sizes scaled to sum to the number of classes, and 0 for the classes without a row."""
    weights = torch.where(counts > 0, 1 / sizes, 0.0)
    return weights * (len(counts) / weights.sum())


def _at_least_float32(logits: Tensor) -> Tensor:
    """Return half-precision logits as float32, others as they are: losses need the range and the digits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _target_mask(logits: Tensor, target: Tensor) -> Tensor:
    """Return a boolean mask of shape (B, C), true at each row's target."""
    return target.unsqueeze(1) == torch.arange(logits.shape[1], device=logits.device)


def _checked_logits(logits: Tensor, target: Tensor, per_class: Tensor | None = None) -> Tensor:
    """Check shapes (never values, which would read the device); return the logits as the losses need them."""
    if logits.ndim != 2 or logits.shape[1] < 2 or target.shape != logits.shape[:1]:
        raise ValueError(
            "A loss over classes needs logits of shape (B, C) with C >= 2 and targets of shape (B,), "
            f"got {tuple(logits.shape)} and {tuple(target.shape)}."
        )
    if per_class is not None and per_class.shape != logits.shape[1:]:
        raise ValueError(
            f"The logits have {logits.shape[1]} columns but class_counts gave {len(per_class)} classes: "
            "give one count per output of the network."
        )
    return _at_least_float32(logits)


def _checked_number(value: float, name: str, zero: bool = True) -> float:
    """Return a number that is finite and >= 0 (> 0 without ``zero``)."""
    boundaries = "left" if zero else "neither"
    check_scalar(value, name, Real, min_val=0, max_val=math.inf, include_boundaries=boundaries)
    if math.isnan(value):
        raise ValueError(f"{name} must be a number, got nan.")
    return float(value)


def _checked_counts(class_counts: ArrayLike | Tensor) -> Tensor:
    """Return a copy of the counts on the CPU or their device, as int64 or float64; at least one positive."""
    counts = (
        class_counts.detach().clone()
        if isinstance(class_counts, Tensor)
        else torch.tensor(np.asarray(class_counts))
    )
    counts = counts.to(torch.float64 if counts.is_floating_point() else torch.int64)
    if counts.ndim != 1 or len(counts) == 0:
        raise ValueError(
            f"class_counts must have shape (C,), one count per class, got {tuple(counts.shape)}."
        )
    if not torch.isfinite(counts).all() or (counts < 0).any() or not (counts > 0).any():
        raise ValueError(
            f"class_counts must be finite, not negative, and not all zero, got {counts.tolist()}."
        )
    return counts


def _positive_counts(class_counts: ArrayLike | Tensor) -> Tensor:
    """Return the checked counts of a loss that is undefined for a class without a row."""
    counts = _checked_counts(class_counts)
    if not (counts > 0).all():
        raise ValueError(
            f"class_counts must be positive for every class, got {counts.tolist()}: give the counts of all "
            "training rows, or a small count for a class that has none yet."
        )
    return counts

"""Columns of numbers brought to one scale, and outliers drawn in smoothly."""

import math
from numbers import Real
from typing import ClassVar, Self

import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn

from skreweight.core.layers import LayerRule
from skreweight.modules._checks import check_size
from skreweight.modules._layer_rules import ROBUST_SCALING

#: Numbers that are sorted at once, where a column has no more.
MOST_SORTED = 2**17


class RobustScaling(nn.Module):
    r"""Median and quartiles bring every column to one scale, a smooth clip draws outliers in.

    .. math:: z = (x - \text{median}) \cdot s, \qquad
        s = \begin{cases} 1/\text{IQR} & \text{IQR} > 0 \\ 2/(\max - \min) & \text{IQR} = 0 < \max - \min \\
        0 & \max = \min \end{cases}, \qquad
        \text{output} = \frac{z}{\sqrt{1 + (z/c)^2}}

    for the clip c, which no output exceeds (Holzmüller et al., "Better by default", 2024). Before `fit` the
    median is 0 and s is 1. Neither is trained; both are buffers and stay with the module's state.

    Parameters
    ----------
    n_features : int
        The columns of the input.
    clip : float or None, default=3.0
        The clip c, above 0; None: no clip.

    Attributes
    ----------
    median, scale : Tensor of shape (n_features,)

    Raises
    ------
    TypeError, ValueError
        If ``n_features`` is no positive integer or ``clip`` not above 0.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import RobustScaling
    >>> x = torch.tensor([[1.0, 7.0], [2.0, 7.0], [3.0, 7.0], [4.0, 7.0], [1e30, 7.0]])
    >>> RobustScaling(n_features=2, clip=None).fit(x[:4])(x[:4])[:, 0]
    tensor([-1.0000, -0.3333,  0.3333,  1.0000])
    >>> RobustScaling(n_features=2).fit(x)(x)[4]
    tensor([3., 0.])
    """

    layer_rule: ClassVar[LayerRule] = ROBUST_SCALING

    median: Tensor
    scale: Tensor

    def __init__(self, n_features: int, clip: float | None = 3.0) -> None:
        super().__init__()
        self.n_features = check_size(n_features, "n_features")
        if clip is not None:
            clip = float(check_scalar(clip, "clip", Real, min_val=0, include_boundaries="neither"))
        self.clip = clip
        self.register_buffer("median", torch.zeros(self.n_features))
        self.register_buffer("scale", torch.ones(self.n_features))

    @torch.no_grad()
    def fit(self, x: Tensor) -> Self:
        """Take median and scale of each column from the training rows.

        Parameters
        ----------
        x : Tensor of shape (N, n_features)
            The rows, finite, of any floating dtype: the arithmetic is float64. With leading axes, (..., N,
            n_features), the buffers become those of M members, (..., n_features).

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If x has another number of columns, no rows, or a value that is not finite.
        """
        if x.dim() < 2 or x.shape[-1] != self.n_features or x.shape[-2] == 0:
            raise ValueError(
                f"x must be of shape (N, {self.n_features}) with at least one row, got {tuple(x.shape)}."
            )
        if not x.isfinite().all():
            raise ValueError(
                "x must be finite, got NaN or infinity: fill gaps before, with TableEncoder or SimpleImputer."
            )
        # A few columns at a time: a sort takes three times its input.
        at_once = max(1, MOST_SORTED * x.shape[-1] // x.numel())
        parts = [_five_numbers(columns) for columns in x.split(at_once, dim=-1)]
        smallest, low, median, high, largest = torch.cat(parts, dim=-1)
        spread = torch.where(high > low, high - low, largest / 2 - smallest / 2)
        # what float32 cannot hold of 1/spread would make 0·inf of the column's median
        scale = (1 / spread).clamp(max=torch.finfo(self.scale.dtype).max)
        self.scale = torch.where(largest > smallest, scale, 0.0).to(self.scale)
        self.median = median.to(self.median)
        return self

    @property
    def is_fitted(self) -> bool:
        """Whether median and scale are others than those a new layer has."""
        return bool((self.median != 0).any() or (self.scale != 1).any())

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled columns, of the shape of x, (..., B, n_features).

        Parameters
        ----------
        x : torch.Tensor of shape (..., B, n_features)
        """
        return self.scaled(x, self.median, self.scale)

    def scaled(self, x: Tensor, median: Tensor, scale: Tensor) -> Tensor:
        """Return the columns as `forward` does, with other medians and scales.

        Parameters
        ----------
        x : torch.Tensor of shape (..., B, n_features)
        median, scale : torch.Tensor of shape (..., n_features)
        """
        z = x - median.unsqueeze(-2)
        z = z * scale.unsqueeze(-2) if z.requires_grad else z.mul_(scale.unsqueeze(-2))
        if self.clip is None:
            return z
        if torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
            # ONNX has no hypot. At the limit z/√(1 + z²) is 1, to rounding, and the square is finite.
            limit = torch.finfo(z.dtype).max ** 0.5 / 2
            ratio = (z / self.clip).clamp(-limit, limit)
            return ratio / (1 + ratio * ratio).sqrt() * self.clip
        # hypot and the clamp keep what the square would make infinite: c·z/√(c² + z²)
        z = z.clamp(torch.finfo(z.dtype).min, torch.finfo(z.dtype).max)
        length = torch.hypot(z, z.new_tensor(self.clip))
        if z.requires_grad:
            return z / length * self.clip
        return z.div_(length).mul_(self.clip)  # without a graph the memory serves again

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"{self.n_features}, clip={self.clip}"


def _five_numbers(x: Tensor) -> Tensor:
    """Return minimum, quartiles and maximum of each column of x (..., N, F), (5, ..., F), in float64."""
    ordered = x.double().sort(dim=-2).values
    positions = [q * (ordered.shape[-2] - 1) for q in (0.0, 0.25, 0.5, 0.75, 1.0)]
    # linear between two rows, as torch.quantile, which ends at 2**24 of them
    return torch.stack(
        [ordered[..., int(p), :].lerp(ordered[..., math.ceil(p), :], p - int(p)) for p in positions]
    )

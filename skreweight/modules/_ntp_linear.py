"""The linear layer in the neural tangent parametrisation."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from skreweight.core.layers import LayerRule
from skreweight.modules._checks import check_size
from skreweight.modules._layer_rules import NTP_LINEAR


# Not an nn.Linear by inheritance: its output is not W·x + b, and code that takes linear layers apart by their
# weight must not take it for one.
class NTPLinear(nn.Module):
    r"""A linear layer whose weight is divided by the root of its fan-in when used, not when drawn.

    .. math:: z = \frac{W x}{\sqrt{n_{\text{in}}}} + b, \qquad W, b \sim N(0, 1)

    Jacot et al., "Neural tangent kernel" (2018), section 3: one learning rate then fits layers of every width.

    Parameters
    ----------
    in_features : int
        The columns of the input.
    out_features : int
        The columns of the output.
    zero_init : bool, default=False
        Whether W and b start at 0, as in a last layer that begins with equal logits.

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features)
    bias : Parameter of shape (out_features,)

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import NTPLinear
    >>> NTPLinear(4, 3, zero_init=True)(torch.ones(2, 4))
    tensor([[0., 0., 0.],
            [0., 0., 0.]], grad_fn=<AddBackward0>)
    """

    layer_rule: ClassVar[LayerRule] = NTP_LINEAR

    def __init__(self, in_features: int, out_features: int, zero_init: bool = False) -> None:
        super().__init__()
        self.in_features = check_size(in_features, "in_features")
        self.out_features = check_size(out_features, "out_features")
        self.zero_init = zero_init
        self.weight = nn.Parameter(torch.empty(self.out_features, self.in_features))
        self.bias = nn.Parameter(torch.empty(self.out_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W and b anew, or set them to 0."""
        draw = nn.init.zeros_ if self.zero_init else nn.init.normal_
        draw(self.weight)
        draw(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., B, out_features) for x of shape (..., B, in_features).

        Parameters
        ----------
        x : torch.Tensor of shape (..., B, in_features)
        """
        return torch.add(self.bias.unsqueeze(-2), x @ self.weight.mT, alpha=1 / math.sqrt(self.in_features))

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"{self.in_features}, {self.out_features}, zero_init={self.zero_init}"

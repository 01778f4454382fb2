"""A learned scale for every input."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from skreweight.core.layers import LayerRule
from skreweight.modules._checks import check_size
from skreweight.modules._layer_rules import INPUT_SCALE


class InputScale(nn.Module):
    r"""Every column times a number of its own: :math:`x_j s_j`, a soft choice of columns.

    Parameters
    ----------
    n_features : int
        The columns of the input.

    Attributes
    ----------
    scale : Parameter of shape (n_features,)
        s, which starts at 1.

    Raises
    ------
    TypeError, ValueError
        If ``n_features`` is no positive integer.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import InputScale
    >>> x = torch.ones(2, 3)
    >>> torch.equal(InputScale(n_features=3)(x), x)
    True
    """

    layer_rule: ClassVar[LayerRule] = INPUT_SCALE

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = check_size(n_features, "n_features")
        self.scale = nn.Parameter(torch.ones(self.n_features))

    def reset_parameters(self) -> None:
        """Set every scale to 1."""
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled columns, of the shape of x, (..., B, n_features).

        Parameters
        ----------
        x : torch.Tensor of shape (..., B, n_features)
        """
        return x * self.scale.unsqueeze(-2)

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return str(self.n_features)

"""The cosine layer of LDAM."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from skreweight.modules._checks import check_size


# Not an nn.Linear by inheritance either: its output is not linear in its parameters, and code that shares
# activations and signals of linear layers must not take it for one.
class NormedLinear(nn.Module):
    r"""Cosines between every input row and every class's weight vector: a last layer without scale or bias.

    :math:`z_c = \frac{x^\top w_c}{\|x\|\,\|w_c\|} \in [-1, 1]`, the layer that Cao et al. (2019) put
    before the LDAM loss. A row of zeros has cosine 0 with everything.

    Parameters
    ----------
    in_features : int
        The columns of the input.
    out_features : int
        The columns of the output, one per class.

    Attributes
    ----------
    weight : Parameter of shape (out_features, in_features)
        The weight vectors :math:`w_c` as rows, as in :class:`torch.nn.Linear`; they start as random
        directions of length 1.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import NormedLinear
    >>> layer = NormedLinear(4, 3)
    >>> x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    >>> torch.allclose(layer(x), layer(100 * x))
    True
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = check_size(in_features, "in_features")
        self.out_features = check_size(out_features, "out_features")
        self.weight = nn.Parameter(torch.empty(self.out_features, self.in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weight vectors, of length 1 and uniformly distributed directions."""
        with torch.no_grad():
            self.weight.copy_(functional.normalize(torch.randn_like(self.weight)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the cosines, shape (..., out_features), of an input of shape (..., in_features).

        Parameters
        ----------
        x : torch.Tensor of shape (..., in_features)
        """
        return functional.linear(functional.normalize(x, dim=-1), functional.normalize(self.weight, dim=-1))

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"in_features={self.in_features}, out_features={self.out_features}"

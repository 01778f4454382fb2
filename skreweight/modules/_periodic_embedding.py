"""Numbers embedded by cosines of learned frequencies."""

import math
from numbers import Real
from typing import ClassVar

import torch
from sklearn.utils import check_scalar
from torch import Tensor, nn

from skreweight.core.layers import LayerRule
from skreweight.modules._checks import check_size
from skreweight.modules._layer_rules import PERIODIC_EMBEDDING


class PeriodicEmbedding(nn.Module):
    r"""Each of the first columns, and behind all columns an embedding of it by cosines (PBLD).

    .. math:: x_j \mapsto (x_j,\; W_j \cos(2\pi f_j x_j + b_j) + c_j), \qquad j < n_{\text{embedded}}

    "Periodic, bias, linear, dense" of Holzmüller et al., "Better by default" (2024). The output is the input with
    ``embedding_size`` more columns for each embedded one, in their order.

    Parameters
    ----------
    n_embedded : int
        How many columns, the first ones, are embedded; the others pass as they are.
    n_frequencies : int, default=16
        The cosines of a column.
    embedding_size : int, default=3
        The columns that a column adds.
    frequency_scale : float, default=0.1
        The frequencies start as this times N(0, 1); above 0.

    Attributes
    ----------
    frequency, phase : Parameter of shape (n_embedded, n_frequencies)
        f, and b, which starts as U(−π, π).
    weight : Parameter of shape (n_embedded, embedding_size, n_frequencies)
        W, which starts as U(−1, 1)/√n_frequencies.
    bias : Parameter of shape (n_embedded, embedding_size)
        c, which starts like W.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer or ``frequency_scale`` not above 0.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import PeriodicEmbedding
    >>> PeriodicEmbedding(n_embedded=2)(torch.zeros(5, 4)).shape
    torch.Size([5, 10])
    """

    layer_rule: ClassVar[LayerRule] = PERIODIC_EMBEDDING

    def __init__(
        self,
        n_embedded: int,
        n_frequencies: int = 16,
        embedding_size: int = 3,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.n_embedded = check_size(n_embedded, "n_embedded")
        self.n_frequencies = check_size(n_frequencies, "n_frequencies")
        self.embedding_size = check_size(embedding_size, "embedding_size")
        self.frequency_scale = float(
            check_scalar(frequency_scale, "frequency_scale", Real, min_val=0, include_boundaries="neither")
        )
        self.frequency = nn.Parameter(torch.empty(self.n_embedded, self.n_frequencies))
        self.phase = nn.Parameter(torch.empty(self.n_embedded, self.n_frequencies))
        self.weight = nn.Parameter(torch.empty(self.n_embedded, self.embedding_size, self.n_frequencies))
        self.bias = nn.Parameter(torch.empty(self.n_embedded, self.embedding_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new frequencies, phases and weights."""
        bound = 1 / math.sqrt(self.n_frequencies)
        nn.init.normal_(self.frequency, std=self.frequency_scale)
        nn.init.uniform_(self.phase, -math.pi, math.pi)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., B, n_features + n_embedded·embedding_size) for x of shape (..., B, n_features).

        Parameters
        ----------
        x : torch.Tensor of shape (..., B, n_features)
        """
        numbers = x[..., : self.n_embedded].mT.unsqueeze(-1)  # (*M, n_embedded, B, 1)
        angles = torch.addcmul(self.phase.unsqueeze(-2), numbers, 2 * math.pi * self.frequency.unsqueeze(-2))
        embedded = angles.cos() @ self.weight.mT + self.bias.unsqueeze(-2)
        embedded = embedded.transpose(-3, -2).flatten(-2)
        return torch.cat([x.expand(*embedded.shape[:-1], -1), embedded], dim=-1)

    def extra_repr(self) -> str:
        """Return what `repr` shows between the parentheses."""
        return f"{self.n_embedded}, n_frequencies={self.n_frequencies}, embedding_size={self.embedding_size}"

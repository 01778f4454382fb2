"""ALL-CNN-C of Springenberg et al. (2015)."""

from torch import Tensor, nn

from skreweight.modules._checks import check_dropout, check_size


class AllCNNC(nn.Module):
    """The network without pooling layers ALL-CNN-C, for images of 32×32 pixels.

    Springenberg et al., "Striving for Simplicity: The All Convolutional Net" (2015), Table 1 and 2, model C:
    nine convolutions with ReLUs, two of them with stride 2, the 7th without padding (so that the class maps
    have the paper's 6×6 pixels), then a global average. Two things differ from the paper, or are not in it.
    The class maps have no ReLU, which would leave a class whose map starts negative everywhere without a
    gradient. The weights start by He's rule with biases of 0: under PyTorch's default the signal shrinks to
    nothing in nine layers without normalisation.

    Parameters
    ----------
    n_classes : int, default=2
        The columns of the output, at least 2.
    in_channels : int, default=3
        The channels of the images.
    input_dropout : float, default=0.2
        The probability of dropping an input value in training, in [0, 1).
    dropout : float, default=0.5
        The probability of dropping a unit after each convolution with stride 2 in training, in [0, 1).

    Attributes
    ----------
    layers : torch.nn.Sequential
        All layers in their order.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer or a dropout outside [0, 1).

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import AllCNNC
    >>> AllCNNC(n_classes=10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        n_classes: int = 2,
        in_channels: int = 3,
        input_dropout: float = 0.2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_size(n_classes, "n_classes", minimum=2)
        check_size(in_channels, "in_channels")
        check_dropout(input_dropout, "input_dropout")
        check_dropout(dropout, "dropout")
        self.layers = nn.Sequential(
            nn.Dropout(input_dropout),
            *_convolution(in_channels, 96, kernel_size=3, padding=1),
            *_convolution(96, 96, kernel_size=3, padding=1),
            *_convolution(96, 96, kernel_size=3, padding=1, stride=2),
            nn.Dropout(dropout),
            *_convolution(96, 192, kernel_size=3, padding=1),
            *_convolution(192, 192, kernel_size=3, padding=1),
            *_convolution(192, 192, kernel_size=3, padding=1, stride=2),
            nn.Dropout(dropout),
            *_convolution(192, 192, kernel_size=3),
            *_convolution(192, 192, kernel_size=1),
            nn.Conv2d(192, n_classes, kernel_size=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, shape (B, n_classes), of images of shape (B, in_channels, 32, 32).

        Parameters
        ----------
        X : torch.Tensor of shape (B, in_channels, 32, 32)
        """
        return self.layers(X)


def _convolution(
    n_in: int, n_out: int, kernel_size: int, padding: int = 0, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(n_in, n_out, kernel_size, stride=stride, padding=padding), nn.ReLU()

"""The residual network for CIFAR of He et al. (2016) with 32 layers."""

from torch import Tensor, nn
from torch.nn import functional

from skreweight.modules._checks import check_size
from skreweight.modules._normed_linear import NormedLinear


class ResNet32(nn.Module):
    """ResNet-32 for images of 32×32 pixels, 0.46 million parameters.

    He et al., "Deep Residual Learning for Image Recognition" (2016), section 4.2 with n = 5: a convolution,
    three stages of five blocks with 16, 32 and 64 channels, a global average and a linear layer; shortcuts
    without parameters (option A), weights by He's rule. The network of Qi et al.'s and Cao et al.'s tables
    on CIFAR.

    Parameters
    ----------
    n_classes : int, default=10
        The columns of the output, at least 2.
    in_channels : int, default=3
        The channels of the images.
    normalized_head : bool, default=False
        Whether the last layer is a :class:`NormedLinear` (for :class:`skreweight.losses.LDAMLoss`) instead
        of a :class:`torch.nn.Linear`.

    Attributes
    ----------
    stem : torch.nn.Sequential
        The first convolution, its BatchNorm and ReLU.
    stages : torch.nn.Sequential
        The three stages, each a Sequential of five blocks.
    head : torch.nn.Linear or NormedLinear
        The last layer.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import ResNet32
    >>> network = ResNet32(n_classes=10)
    >>> network(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in network.parameters())
    464154
    """

    def __init__(self, n_classes: int = 10, in_channels: int = 3, normalized_head: bool = False) -> None:
        super().__init__()
        check_size(n_classes, "n_classes", minimum=2)
        check_size(in_channels, "in_channels")
        self.stem = nn.Sequential(_convolution_3x3(in_channels, 16), nn.BatchNorm2d(16), nn.ReLU())
        self.stages = nn.Sequential(
            _stage(16, 16, stride=1), _stage(16, 32, stride=2), _stage(32, 64, stride=2)
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = NormedLinear(64, n_classes) if normalized_head else nn.Linear(64, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits, shape (B, n_classes), of images of shape (B, in_channels, 32, 32).

        Parameters
        ----------
        X : torch.Tensor of shape (B, in_channels, 32, 32)
        """
        return self.head(self.pool(self.stages(self.stem(X))))


class _Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution_3x3(n_in, n_out, stride),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            _convolution_3x3(n_out, n_out),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = _PaddedShortcut(n_out - n_in, stride) if n_in != n_out else nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


class _PaddedShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and channels of zeros for those missing, half on each side."""

    def __init__(self, n_missing: int, stride: int) -> None:
        super().__init__()
        self.before, self.after = n_missing // 2, n_missing - n_missing // 2
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, self.before, self.after))


def _stage(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_Block(n_in, n_out, stride), *(_Block(n_out, n_out, stride=1) for _ in range(4)))


def _convolution_3x3(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel_size=3, stride=stride, padding=1, bias=False)

"""Fully connected networks: the default for tables of numbers, and the two of Liu et al. (2022)."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from skreweight.modules._checks import check_dropout, check_size
from skreweight.modules._layered import Layered
from skreweight.modules._normed_linear import NormedLinear
from skreweight.modules._robust_scaling import RobustScaling

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class MLP(Layered):
    """Fully connected network: linear layers with an activation between them.

    Parameters
    ----------
    n_features : int
        The columns of the input.
    n_classes : int
        The columns of the output, at least 2.
    hidden : sequence of int, default=(100, 100)
        The units of each hidden layer; an empty sequence makes a linear model.
    activation : str or sequence of str, default="relu"
        What follows every hidden layer, or one name per hidden layer: "elu", "gelu", "leaky_relu", "relu",
        "sigmoid", "silu" or "tanh".
    dropout : float, default=0.0
        The probability of dropping a hidden unit in training, in [0, 1).
    normalized_head : bool, default=False
        Whether the last layer is a :class:`NormedLinear` (for :class:`skreweight.losses.LDAMLoss`) instead
        of a :class:`torch.nn.Linear`.
    scaled : bool, default=False
        Whether a :class:`RobustScaling`, called ``scaling``, comes first: it brings columns on any scale to one.
        `ReweightedClassifier` fits it to the training rows; ``ReweightedClassifier(module=None)`` has it.

    Attributes
    ----------
    layers : torch.nn.Sequential
        All layers in their order, the last one (the head) included.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, ``dropout`` outside [0, 1), or ``activation`` unknown or not as
        many as hidden layers.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import MLP
    >>> MLP(n_features=8, n_classes=3, hidden=(16,), activation="tanh")
    MLP(
      (layers): Sequential(
        (0): Linear(in_features=8, out_features=16, bias=True)
        (1): Tanh()
        (2): Linear(in_features=16, out_features=3, bias=True)
      )
    )
    >>> MLP(n_features=8, n_classes=3)(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        hidden: Sequence[int] = (100, 100),
        activation: str | Sequence[str] = "relu",
        dropout: float = 0.0,
        normalized_head: bool = False,
        scaled: bool = False,
    ) -> None:
        super().__init__()
        check_size(n_features, "n_features")
        check_size(n_classes, "n_classes", minimum=2)
        if isinstance(hidden, int):
            raise TypeError(
                f"hidden must be a sequence, one number of units per layer, got {hidden}: give ({hidden},)."
            )
        sizes = [n_features, *(check_size(units, "hidden units") for units in hidden)]
        check_dropout(dropout, "dropout")
        layers: list[nn.Module] = []
        for (n_in, n_out), name in zip(pairwise(sizes), _per_layer(activation, len(hidden)), strict=True):
            layers += [nn.Linear(n_in, n_out), _ACTIVATIONS[name]()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        head = NormedLinear if normalized_head else nn.Linear
        layers.append(head(sizes[-1], n_classes))
        named = OrderedDict((str(k), layer) for k, layer in enumerate(layers))
        if scaled:
            named["scaling"] = RobustScaling(n_features)
            named.move_to_end("scaling", last=False)
        self.layers = nn.Sequential(named)


class TextFCN(MLP):
    """The network for sentence embeddings of Liu et al. (2022), Table 1: 768 ReLU, 768 ReLU, 10 tanh.

    Parameters
    ----------
    n_features : int, default=768
        The columns of the input, those of BERT-base by default. The two wide layers keep 768 units.
    n_classes : int, default=2
        The columns of the output, at least 2.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import TextFCN
    >>> TextFCN(n_features=384, n_classes=5)(torch.zeros(2, 384)).shape
    torch.Size([2, 5])
    """

    def __init__(self, n_features: int = 768, n_classes: int = 2) -> None:
        super().__init__(n_features, n_classes, hidden=(768, 768, 10), activation=("relu", "relu", "tanh"))


class APSNet(MLP):
    """The network for APS Failure of Liu et al. (2022), Table 7: 100 ReLU, 100 tanh.

    Parameters
    ----------
    n_features : int, default=171
        The columns of the input. The published files have 170 besides the class.
    n_classes : int, default=2
        The columns of the output, at least 2.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer.

    Examples
    --------
    >>> import torch
    >>> from skreweight.modules import APSNet
    >>> APSNet(n_features=170)(torch.zeros(2, 170)).shape
    torch.Size([2, 2])
    """

    def __init__(self, n_features: int = 171, n_classes: int = 2) -> None:
        super().__init__(n_features, n_classes, hidden=(100, 100), activation=("relu", "tanh"))


def _per_layer(activation: str | Sequence[str], n_layers: int) -> Sequence[str]:
    """Return one known activation name per hidden layer."""
    names = [activation] * n_layers if isinstance(activation, str) else list(activation)
    if len(names) != n_layers:
        raise ValueError(
            f"activation must be one name or one per hidden layer, got {len(names)} for {n_layers} layers."
        )
    for name in {activation} if isinstance(activation, str) else names:
        if name not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {name!r}.")
    return names

"""The network for tables: scaled and embedded columns, then wide linear layers."""

from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import pairwise

from torch import nn

from skreweight.modules import _mlp
from skreweight.modules._checks import check_dropout, check_size
from skreweight.modules._input_scale import InputScale
from skreweight.modules._layered import Layered
from skreweight.modules._ntp_linear import NTPLinear
from skreweight.modules._periodic_embedding import PeriodicEmbedding
from skreweight.modules._robust_scaling import RobustScaling

_ACTIVATIONS = {**_mlp._ACTIVATIONS, "selu": nn.SELU}


class TableNet(Layered):
    r"""A network for tables of numbers, after RealMLP: robust scaling, periodic embedding, NTP layers, SELU.

    .. math:: x \to \text{RobustScaling} \to \text{PeriodicEmbedding} \to \text{InputScale} \to
        (\text{NTPLinear} \to \text{SELU} \to \text{Dropout}) \times 2 \to \text{NTPLinear}

    from Holzmüller et al., "Better by default: strong pre-tuned MLPs and boosted trees on tabular data" (2024).
    The last layer starts at 0. It is made for Adam with a learning rate of 0.04, which `param_groups` divides
    among the kinds of parameters.

    Every layer acts on the last axes and lets those before them broadcast: with parameters stacked to (K, ...),
    by :func:`torch.func.stack_module_state` say, inputs of shape (B, n_features) or (K, B, n_features) give
    logits of shape (K, B, n_classes).

    Parameters
    ----------
    n_features : int
        The columns of the input.
    n_classes : int
        The columns of the output, at least 2.
    n_numeric : int or None, default=None
        How many columns, the first ones, are numbers and embedded; those behind them are binary. None: all;
        0: none. `skreweight.preprocessing.TableEncoder` puts numbers first and counts them in ``n_numeric_``.
    hidden : sequence of int, default=(128, 128)
        The units of each hidden layer; an empty sequence makes a linear model of the embedded columns.
    activation : str, default="selu"
        What follows every hidden layer: "elu", "gelu", "leaky_relu", "relu", "selu", "sigmoid", "silu" or
        "tanh".
    dropout : float, default=0.15
        The probability of dropping a hidden unit in training, in [0, 1).
    n_frequencies : int, default=16
        The cosines of an embedded column.
    embedding_size : int, default=3
        The columns that an embedded column adds.
    frequency_scale : float, default=0.1
        The frequencies start as this times N(0, 1).
    clip : float or None, default=3.0
        The smooth clip of the scaled columns; None: no clip.

    Attributes
    ----------
    layers : torch.nn.Sequential
        All layers in their order, by name: ``scaling``, ``embedding``, ``input_scale``, ``linear_1``,
        ``activation_1``, ``dropout_1``, ..., ``output``.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, ``n_numeric`` not in [0, n_features], ``dropout`` not in [0, 1), or
        ``activation`` unknown.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from skreweight import ReweightedClassifier
    >>> from skreweight.modules import TableNet
    >>> X, y = make_classification(500, weights=[0.9], random_state=0)
    >>> clf = ReweightedClassifier(
    ...     TableNet, weighting="none", lr=0.04, optimizer__param_groups=TableNet.param_groups(0.04),
    ...     warmup_epochs=5, max_epochs=0, random_state=0,
    ... ).fit(X, y)
    >>> clf.predict_proba(X).shape
    (500, 2)
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int,
        n_numeric: int | None = None,
        hidden: Sequence[int] = (128, 128),
        activation: str = "selu",
        dropout: float = 0.15,
        n_frequencies: int = 16,
        embedding_size: int = 3,
        frequency_scale: float = 0.1,
        clip: float | None = 3.0,
    ) -> None:
        super().__init__()
        n_features = check_size(n_features, "n_features")
        check_size(n_classes, "n_classes", minimum=2)
        n_numeric = n_features if n_numeric is None else check_size(n_numeric, "n_numeric", minimum=0)
        if n_numeric > n_features:
            raise ValueError(f"n_numeric must be at most n_features, {n_features}, got {n_numeric}.")
        if isinstance(hidden, int):
            raise TypeError(
                f"hidden must be a sequence, one number of units per layer, got {hidden}: give ({hidden},)."
            )
        if activation not in _ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(sorted(_ACTIVATIONS))}, got {activation!r}."
            )
        check_dropout(dropout, "dropout")

        layers: OrderedDict[str, nn.Module] = OrderedDict(scaling=RobustScaling(n_features, clip))
        width = n_features
        if n_numeric > 0:
            layers["embedding"] = PeriodicEmbedding(n_numeric, n_frequencies, embedding_size, frequency_scale)
            width += n_numeric * embedding_size
        layers["input_scale"] = InputScale(width)
        sizes = [width, *(check_size(units, "hidden units") for units in hidden)]
        for number, (n_in, n_out) in enumerate(pairwise(sizes), start=1):
            layers[f"linear_{number}"] = NTPLinear(n_in, n_out)
            layers[f"activation_{number}"] = _ACTIVATIONS[activation]()
            if dropout > 0:
                layers[f"dropout_{number}"] = nn.Dropout(dropout)
        layers["output"] = NTPLinear(sizes[-1], n_classes, zero_init=True)
        self.layers = nn.Sequential(layers)

    @staticmethod
    def param_groups(
        lr: float = 0.04, *, embedding: float = 0.1, input_scale: float = 6.0, bias: float = 0.1
    ) -> list[tuple[str, dict[str, float]]]:
        """Return the learning rates as skorch and `ReweightedClassifier` take them.

        Parameters
        ----------
        lr : float, default=0.04
            The learning rate of the weights of the linear layers, which no pattern matches: give the classifier
            the same ``lr``.
        embedding, input_scale, bias : float, default=0.1, 6.0 and 0.1
            What multiplies it for all parameters of the embedding, for the scales of the inputs, and for the
            biases of the linear layers.

        Returns
        -------
        list of (str, dict)
            ``optimizer__param_groups``: a pattern of parameter names and ``{"lr": ...}``; the first match counts.

        Examples
        --------
        >>> from skreweight.modules import TableNet
        >>> TableNet.param_groups(0.5, bias=1.0)[1:]
        [('*layers.input_scale.*', {'lr': 3.0}), ('*layers.*.bias', {'lr': 0.5})]
        """
        return [
            ("*layers.embedding.*", {"lr": lr * embedding}),
            ("*layers.input_scale.*", {"lr": lr * input_scale}),
            ("*layers.*.bias", {"lr": lr * bias}),
        ]

    def learning_rate_factors(self, **factors: float) -> dict[str, float]:
        """Return what multiplies the learning rate of each parameter.

        Parameters
        ----------
        **factors : float
            ``embedding``, ``input_scale`` and ``bias`` of `param_groups`.

        Returns
        -------
        dict of str to float
            The factor by the parameter's name, in the order of ``named_parameters()``.

        Examples
        --------
        >>> import torch
        >>> from skreweight.modules import TableNet
        >>> network = TableNet(n_features=4, n_classes=2)
        >>> factors = network.learning_rate_factors()
        >>> factors["layers.linear_1.weight"], factors["layers.linear_1.bias"]
        (1.0, 0.1)
        >>> groups = [{"params": p, "lr": 0.04 * factors[name]} for name, p in network.named_parameters()]
        >>> optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
        """
        groups = self.param_groups(1.0, **factors)
        return {
            name: next((group["lr"] for pattern, group in groups if fnmatchcase(name, pattern)), 1.0)
            for name, _ in self.named_parameters()
        }

"""Networks: the default for tables of numbers, a stronger one with its layers, and those of the papers' tables.

All take ``n_classes`` by keyword, those for tables ``n_features`` too: the classifier fills in what the
data say and the user does not. Every one returns logits of shape ``(B, n_classes)``.
"""

from skreweight.modules._allcnn import AllCNNC
from skreweight.modules._input_scale import InputScale
from skreweight.modules._mlp import MLP, APSNet, TextFCN
from skreweight.modules._normed_linear import NormedLinear
from skreweight.modules._ntp_linear import NTPLinear
from skreweight.modules._periodic_embedding import PeriodicEmbedding
from skreweight.modules._resnet import ResNet32
from skreweight.modules._robust_scaling import RobustScaling
from skreweight.modules._table_net import TableNet

__all__ = [
    "MLP",
    "APSNet",
    "AllCNNC",
    "InputScale",
    "NTPLinear",
    "NormedLinear",
    "PeriodicEmbedding",
    "ResNet32",
    "RobustScaling",
    "TableNet",
    "TextFCN",
]

"""Networks: the default for tables of numbers, and those of the papers' tables.

All take ``n_classes`` by keyword, those for tables ``n_features`` too: the classifier fills in what the
data say and the user does not. Every one returns logits of shape ``(B, n_classes)``.
"""

from skreweight.modules._allcnn import AllCNNC
from skreweight.modules._mlp import MLP, APSNet, TextFCN
from skreweight.modules._normed_linear import NormedLinear
from skreweight.modules._resnet import ResNet32

__all__ = ["MLP", "APSNet", "AllCNNC", "NormedLinear", "ResNet32", "TextFCN"]

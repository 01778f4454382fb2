"""
Images with a Dataset, and frozen layers
========================================

Where images do not fit into one array, or are changed as they are read, X may be a torch ``Dataset`` of
``(image, label)`` pairs. Any network goes in as a class: ``n_classes`` is filled in from the labels. Here a small
convolutional network tells a rare handwritten 8 from the other digits, with images shifted at random in training. In
stage 2 everything may be trained on, or the last layer alone.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import Dataset

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled

X, y = load_bundled("digits", return_X_y=True, as_frame=False)
images = (X / 16).astype(np.float32).reshape(-1, 1, 8, 8)
codes = (y == "pos").astype(np.int64)
train, test = train_test_split(np.arange(len(y)), stratify=codes, test_size=0.4, random_state=0)

# %%
# A Dataset that changes its images, and a network
# ------------------------------------------------


class Shifted(Dataset):
    """Images moved by up to one pixel, another way each time they are read."""

    def __init__(self, images, codes):
        self.images, self.codes = torch.from_numpy(images), torch.from_numpy(codes)

    def __len__(self):
        return len(self.codes)

    def __getitem__(self, i):
        shift = torch.randint(-1, 2, (2,)).tolist()
        return torch.roll(self.images[i], shift, dims=(1, 2)), self.codes[i]


class ConvNet(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self, n_classes, width=8):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, n_classes),
        )

    def forward(self, x):
        return self.layers(x)


# %%
# Fit and look
# ------------
#
# ``y=None`` reads the labels from the Dataset. ``"absgd"`` looks at losses alone and needs no validation rows; for
# methods that need some, they are carved from a Dataset as from an array. ``stage_two_trainable="classifier"`` freezes
# all but the layer that makes the logits; patterns of parameter names, such as ``["layers.6.*"]``, say it more finely.

contestants = {
    'weighting="none"': {"weighting": "none"},
    'weighting="absgd"': {"weighting": "absgd"},
    '"absgd", last layer in stage 2': {"weighting": "absgd", "stage_two_trainable": "classifier"},
}
fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.6), layout="constrained")
for ax, (name, options) in zip(axes, contestants.items(), strict=True):
    clf = ReweightedClassifier(
        ConvNet, warmup_epochs=6, max_epochs=10, lr=3e-3, batch_size=64, random_state=0, **options
    )
    clf.fit(Shifted(images[train], codes[train]), None)
    predicted = clf.predict(images[test])
    ConfusionMatrixDisplay.from_predictions(
        codes[test], predicted, display_labels=["other", "8"], cmap="Blues", colorbar=False, ax=ax
    )
    ax.set_title(name, fontsize=11)
plt.show()

# %%
# What stands before the logits
# -----------------------------
#
# ``features`` returns the inputs of the last layer: the representation that frozen layers keep.

print(clf.features(images[test]).shape)

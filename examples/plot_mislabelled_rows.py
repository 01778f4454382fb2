"""
Mislabelled rows, found
=======================

Five per cent of the labels are flipped. :func:`~skreweight.inspection.label_quality` ranks rows by the probability
that networks which did not see the row give to its label: the wrong ones come first.

Learned weights are no substitute: they say which rows help the validation rows, not which labels are wrong.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import PrecisionRecallDisplay
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled
from skreweight.datasets.imbalance import flip_labels
from skreweight.inspection import label_quality

X, truth = load_bundled("digits", return_X_y=True, as_frame=False)
X = X.astype(np.float32) / 16
y = flip_labels(truth, 0.05, random_state=0)
wrong = y != truth
print(f"{wrong.sum()} of {len(y)} labels are wrong")

# %%
# Rank the rows
# -------------

settings = {"warmup_epochs": 8, "max_epochs": 4, "lr": 1e-3, "random_state": 0}
plain = ReweightedClassifier(weighting="none", **settings)
folds = StratifiedKFold(5, shuffle=True, random_state=0)
quality = label_quality(cross_val_predict(plain, X, y, cv=folds, method="predict_proba"), y)

weights = ReweightedClassifier(weighting="ours", **settings).fit(X, y).example_weights_
weights = np.nan_to_num(weights, nan=np.nanmax(weights))  # rows held out for validation come last

fig, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
PrecisionRecallDisplay.from_predictions(wrong, -quality, name="lowest label_quality first", ax=ax)
PrecisionRecallDisplay.from_predictions(
    wrong, -weights, name="lowest weight first", plot_chance_level=True, ax=ax
)
ax.set(xlabel="share of the wrong labels that is found", ylabel="share of the rows looked at that is wrong")
ax.legend(loc="center left")
plt.show()

# %%
# The twelve most suspicious rows
# -------------------------------
#
# "pos" is the digit 8, "neg" are all others. Most rows are "neg", so that most wrong labels are "pos".

fig, axes = plt.subplots(2, 6, figsize=(9, 3.6), layout="constrained")
for ax, row in zip(axes.flat, np.argsort(quality), strict=False):
    ax.imshow(X[row].reshape(8, 8), cmap="Greys")
    right = "wrong" if wrong[row] else "right"
    ax.set_title(f"{y[row]}: {right}", fontsize=11, color="#D55E00" if wrong[row] else "black")
    ax.set(xticks=[], yticks=[])
plt.show()

"""
What learned weights do, at a glance
====================================

Two classes that overlap, twenty-five common rows for each rare one. A plain network gives much of the rare class away.
``weighting="hu"`` holds back ten validation rows of each class and learns from them how much every other row weighs:
here a rare row many times as much as a common one, and the boundary moves.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import recall_score

from skreweight import ReweightedClassifier
from skreweight.datasets.imbalance import subsample
from skreweight.inspection import ExampleWeightsDisplay

BLUE, ORANGE = "#0072B2", "#D55E00"

X, y = make_moons(2000, noise=0.3, random_state=0)
rows = subsample(y, {0: 1000, 1: 40}, random_state=0)
X_test, y_test = make_moons(4000, noise=0.3, random_state=1)  # as many rare rows as common ones
X, y = X[rows], np.where(y[rows] == 1, "rare", "common")
y_test = np.where(y_test == 1, "rare", "common")

# %%
# Two fits that differ in one word
# --------------------------------

settings = {
    "module__hidden": (32, 32),
    "warmup_epochs": 15,
    "max_epochs": 15,
    "lr": 3e-3,
    "validation_data": 10,
    "random_state": 0,
}
plain = ReweightedClassifier(weighting="none", **settings).fit(X, y)
learned = ReweightedClassifier(weighting="hu", **settings).fit(X, y)

# %%
# Where the boundary lies, and what each row weighs
# -------------------------------------------------
#
# The area of a dot in the middle grows with the row's weight. Crosses are the validation rows.

fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.9), layout="constrained")
for ax, clf, name in zip(axes, [plain, learned], ['weighting="none"', 'weighting="hu"'], strict=False):
    DecisionBoundaryDisplay.from_estimator(
        clf,
        X,
        response_method="predict_proba",
        plot_method="contour",
        levels=[0.5],
        colors="black",
        ax=ax,
        eps=0.3,
    )
    weights = np.nan_to_num(clf.example_weights_)
    areas = 10 if clf is plain else 3 + 100 * weights / weights.max()
    for label, colour, alpha in (("common", BLUE, 0.25), ("rare", ORANGE, 0.8)):
        of_class = y == label
        size = areas if np.isscalar(areas) else areas[of_class]
        ax.scatter(*X[of_class].T, s=size, c=colour, alpha=alpha, linewidths=0, label=label)
    if clf.validation_indices_ is not None:
        ax.scatter(*X[clf.validation_indices_].T, c="black", marker="x", s=40, label="held out")
    common, rare = recall_score(y_test, clf.predict(X_test), average=None, labels=["common", "rare"])
    ax.set(title=f"{name}\nrecall: common {common:.2f}, rare {rare:.2f}", xticks=[], yticks=[])
fig.legend(*axes[1].get_legend_handles_labels(), loc="outside lower left", ncols=3)
ExampleWeightsDisplay.from_estimator(learned, y, ax=axes[2], log=True, bins=24)
axes[2].set_title("the learned weights")
axes[2].set(ylim=(0, 1.35), yticks=[0, 0.5, 1])  # room for the legend
axes[2].legend(loc="upper left", fontsize="small", handlelength=1)
plt.show()

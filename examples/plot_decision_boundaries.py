"""
Decision boundaries under the weightings
========================================

Six weightings on the same rows, the same network and the same seed: only ``weighting=`` differs. The line is where
both classes are equally probable to the network, the shading is its probability of the rare class.

``"absgd"`` weighs by loss: with its default λ = 1 it finds no more rare rows here than equal weights do.
``"proportion"`` knows the class frequencies. ``"two-phase"``, ``"hu"`` and ``"ours"`` learn from ten balanced
validation rows, five of each class.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import recall_score

from skreweight import ReweightedClassifier
from skreweight.datasets.imbalance import subsample

X, y = make_moons(3000, noise=0.35, random_state=0)
rows = subsample(y, {0: 1000, 1: 30}, random_state=0)
X, y = X[rows], y[rows]
X_test, y_test = make_moons(4000, noise=0.35, random_state=1)

fig, axes = plt.subplots(2, 3, figsize=(9, 6), layout="constrained", sharex=True, sharey=True)
for ax, name in zip(axes.flat, ["none", "proportion", "absgd", "two-phase", "hu", "ours"], strict=True):
    clf = ReweightedClassifier(
        weighting=name,
        module__hidden=(32, 32),
        validation_data=5,
        warmup_epochs=10,
        max_epochs=20,
        random_state=0,
    ).fit(X, y)
    options = {"response_method": "predict_proba", "class_of_interest": 1, "eps": 0.3, "ax": ax}
    DecisionBoundaryDisplay.from_estimator(
        clf, X, plot_method="contourf", levels=np.linspace(0, 1, 11), cmap="PuOr_r", alpha=0.5, **options
    )
    DecisionBoundaryDisplay.from_estimator(
        clf, X, plot_method="contour", levels=[0.5], colors="black", **options
    )
    ax.scatter(*X[y == 0].T, s=6, c="#0072B2", alpha=0.35, linewidths=0, label="common")
    ax.scatter(*X[y == 1].T, s=22, c="#D55E00", edgecolors="white", linewidths=0.5, label="rare")
    common, rare = recall_score(y_test, clf.predict(X_test), average=None)
    ax.set(
        title=f'"{name}"\nrecall: common {common:.2f}, rare {rare:.2f}',
        xlabel="",
        ylabel="",
        xticks=[],
        yticks=[],
    )
axes[0, 0].legend(loc="lower left", markerscale=1.5)
plt.show()

# %%
# What is gained in recall of the rare class is paid for with recall of the common one. The plain network with another
# threshold moves its boundary too: see :ref:`sphx_glr_auto_examples_plot_thresholds_and_costs.py`.

"""
Wrong labels, and a few rows that are right
===========================================

Who should learn weights? Not who has rows like all others: class weights do as well there. The clearest case among
those that were :doc:`measured </results/noise>`: three labels of ten are wrong, and ten rows of each class were looked
at by hand. All methods get the same rows; most can only choose the epoch by the clean ones, or add them to the others.

Training on the clean rows alone in the second stage (``"two-phase"``) costs less than learning weights from them: try
it beside.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import balanced_accuracy_score

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled
from skreweight.datasets.imbalance import flip_labels

X, y = load_bundled("digits", n_rare=174, return_X_y=True, as_frame=False)
X, y = X.astype(np.float32) / 16, (y == "pos").astype(int)
print(f"{np.bincount(y)[1]} rows of the digit 8, {np.bincount(y)[0]} of others")


def drawn(seed):
    """Half of the rows are test rows, ten of each class are clean, of the others 30 % are labelled wrong."""
    rng = np.random.default_rng(seed)
    of_class = [rng.permutation(np.flatnonzero(y == label)) for label in (0, 1)]
    halves = [np.split(rows, [len(rows) // 2]) for rows in of_class]
    test = np.concatenate([half for half, _ in halves])
    clean = np.concatenate([half[:10] for _, half in halves])
    train = np.concatenate([half[10:] for _, half in halves])
    return train, flip_labels(y[train], 0.3, random_state=seed), clean, test


# %%
# Five draws of each
# ------------------

WAYS = {
    "class weights": {"weighting": "proportion"},
    "class weights,\nclean rows trained too": {"weighting": "proportion", "train_on_validation": True},
    "two-phase": {"weighting": "two-phase"},
    "weights: hu": {"weighting": "hu", "weighting__floor": 0.0},
    "weights: ours": {"weighting": "ours"},
}
scores = {name: [] for name in WAYS}
for seed in range(5):
    train, given, clean, test = drawn(seed)
    for name, way in WAYS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the clean rows stand in X as well, on purpose
            clf = ReweightedClassifier(random_state=seed, **way)
            clf.fit(X[train], given, X_val=X[clean], y_val=y[clean])
        scores[name].append(balanced_accuracy_score(y[test], clf.predict(X[test])))

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for place, (name, values) in enumerate(scores.items()):
    ax.plot(values, np.full(len(values), place), "o", color="#0072B2", alpha=0.35)
    ax.errorbar(np.mean(values), place, xerr=np.std(values, ddof=1), fmt="k|", markersize=16, capsize=4)
    print(f"{name!r}: {np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")
ax.set_yticks(range(len(scores)), list(scores))
ax.invert_yaxis()
ax.set(
    xlabel="balanced accuracy on test rows with true labels", title="30 % of the training labels are wrong"
)
plt.show()

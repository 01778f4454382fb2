"""
Thresholds and costs
====================

A needless check costs 10, a missed case 500. A threshold of 0.5 on the probability does not know that. Out-of-fold
probabilities show what each threshold would have cost, without a row being judged by a network that was trained on it;
:class:`~skreweight.inspection.DecisionDisplay` draws it, and scikit-learn's ``TunedThresholdClassifierCV`` puts the
best threshold into a classifier.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import confusion_matrix, make_scorer
from sklearn.model_selection import (
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled
from skreweight.inspection import DecisionDisplay

X, y = load_bundled("breast_cancer", n_rare=60, return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, test_size=0.4, random_state=0)
folds = StratifiedKFold(5, shuffle=True, random_state=0)


def cost(y_true, y_pred):
    """Return what the decisions cost: 10 for a false alarm, 500 for a miss."""
    (_, false_alarms), (misses, _) = confusion_matrix(y_true, y_pred, labels=["neg", "pos"])
    return 10 * false_alarms + 500 * misses


negative_cost = make_scorer(cost, greater_is_better=False)

# %%
# What each threshold costs, out of fold
# --------------------------------------

fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, name in zip(axes, ["none", "proportion"], strict=True):
    clf = make_pipeline(
        StandardScaler(),
        ReweightedClassifier(weighting=name, warmup_epochs=10, max_epochs=10, lr=1e-3, random_state=0),
    )
    proba = cross_val_predict(clf, X, y, cv=folds, method="predict_proba")[:, 1]
    DecisionDisplay.from_predictions(y, proba, scoring=negative_cost, ax=ax)
    ax.set(title=f'weighting="{name}"', ylabel="−cost, out of fold", ylim=(-6000, 200))
plt.show()

# %%
# On other rows
# -------------
#
# One draw with 24 cases: a single miss is worth fifty false alarms, so that figures this close say little.

for name in ("none", "proportion"):
    clf = make_pipeline(
        StandardScaler(),
        ReweightedClassifier(weighting=name, warmup_epochs=10, max_epochs=10, lr=1e-3, random_state=0),
    )
    tuned = TunedThresholdClassifierCV(clf, scoring=negative_cost, cv=folds).fit(X, y)
    plain = cost(y_test, clf.fit(X, y).predict(X_test))
    print(
        f"{name:10}  cost at 0.5: {plain:5}  at the tuned threshold {tuned.best_threshold_:.2f}: "
        f"{cost(y_test, tuned.predict(X_test)):5}  (calling everything a case: {10 * np.sum(y_test == 'neg')})"
    )

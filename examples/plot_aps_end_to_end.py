"""
Truck failures, end to end
==========================

Sensor readings of trucks with many gaps; one row in sixty is a failure of the air pressure system ("pos"). A needless
check costs 10, a missed failure 500. From the table to a decision: impute, scale, weigh, find the cheapest threshold
out of fold, and look at the test rows once. Where the APS files are not at hand, handwritten digits with a rare 8
stand in.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.metrics import confusion_matrix, make_scorer
from sklearn.model_selection import (
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    train_test_split,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from skreweight import ReweightedClassifier
from skreweight.datasets import fetch_aps_failure, load_bundled
from skreweight.inspection import DecisionDisplay, ExampleWeightsDisplay

# %%
# The data
# --------

try:
    (X, y), (X_test, y_test) = (
        fetch_aps_failure(subset=subset, as_frame=False, return_X_y=True, download_if_missing=False)
        for subset in ("train", "test")
    )
    source = "APS failure"
    X, _, y, _ = train_test_split(X, y, train_size=4000, stratify=y, random_state=0)  # a share, to be quick
except OSError as error:
    print(error)
    source = "digits, the 8 made rare"
    (X, y), (X_test, y_test) = (
        load_bundled("digits", subset=subset, as_frame=False, return_X_y=True) for subset in ("train", "test")
    )
n_gaps = f"{np.isnan(X).mean():.0%}"
print(f"{source}: {len(y)} rows, {np.sum(y == 'pos')} of them failures; {n_gaps} of the values are missing")

# %%
# One pipeline
# ------------

clf = make_pipeline(
    SimpleImputer(strategy="median", keep_empty_features=True),
    QuantileTransformer(n_quantiles=200, random_state=0),
    ReweightedClassifier(weighting="proportion", warmup_epochs=4, max_epochs=4, lr=3e-3, random_state=0),
)
folds = StratifiedKFold(3, shuffle=True, random_state=0)

# %%
# What each threshold costs, out of fold
# --------------------------------------


def cost(y_true, y_pred):
    """Return what the decisions cost: 10 for a needless check, 500 for a missed failure."""
    (_, alarms), (misses, _) = confusion_matrix(y_true, y_pred, labels=["neg", "pos"])
    return 10 * alarms + 500 * misses


negative_cost = make_scorer(cost, greater_is_better=False)
proba = cross_val_predict(clf, X, y, cv=folds, method="predict_proba")[:, 1]
tuned = TunedThresholdClassifierCV(
    clf, scoring=negative_cost, response_method="predict_proba", thresholds=200, cv=folds
).fit(X, y)

fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4), layout="constrained")
DecisionDisplay.from_predictions(y, proba, scoring=negative_cost, ax=left)
left.set(title="−cost of each threshold, out of fold", ylabel="−cost")
ExampleWeightsDisplay.from_estimator(tuned.estimator_[-1], y, ax=right, log=True)
right.set_title("what each row weighs")
plt.show()

# %%
# The test rows, once
# -------------------

n_neg, n_pos = np.sum(y_test == "neg"), np.sum(y_test == "pos")
costs = {
    "check every truck": 10 * n_neg,
    "check none": 500 * n_pos,
    "threshold 0.5": cost(y_test, tuned.estimator_.predict(X_test)),
    f"threshold {tuned.best_threshold_:.3f}": cost(y_test, tuned.predict(X_test)),
}
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
ax.bar_label(
    ax.barh(list(costs), list(costs.values()), color=["0.6", "0.6", "#0072B2", "#D55E00"]), padding=3
)
ax.invert_yaxis()
ax.margins(x=0.15)
ax.set(xlabel=f"cost on {len(y_test)} test rows, {n_pos} of them failures")
plt.show()

# %%
# One draw and one seed: the threshold that is cheapest out of fold need not be the cheapest here. Every weighting on
# these data, tuned, with standard deviations and rivals: ``make demo-weightings`` and :doc:`/results/aps`.

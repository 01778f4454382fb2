"""
Calibration after reweighting
=============================

A network that is trained on weighted rows answers as if classes were as frequent as their weights say: its
probabilities of the rare class are too high. Its ranking may be good all the same. scikit-learn's
``CalibratedClassifierCV`` puts the probabilities right, on folds of the training rows.
"""

import matplotlib.pyplot as plt
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score, brier_score_loss
from sklearn.model_selection import StratifiedKFold, train_test_split

from skreweight import ReweightedClassifier

X, y = make_classification(
    12000, n_features=10, n_informative=6, weights=[0.9], class_sep=0.7, flip_y=0.02, random_state=0
)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, test_size=2 / 3, random_state=0)

settings = {"warmup_epochs": 5, "max_epochs": 5, "lr": 3e-3, "random_state": 0}
weighted = ReweightedClassifier(weighting="proportion", **settings)
folds = StratifiedKFold(3, shuffle=True, random_state=0)
contestants = {
    'weighting="none"': ReweightedClassifier(weighting="none", **settings),
    'weighting="proportion"': weighted,
    'weighting="proportion",\ncalibrated': CalibratedClassifierCV(weighted, method="sigmoid", cv=folds),
}

# %%
# The Brier score is the mean squared error of the probabilities (lower is better), average precision looks at the
# ranking alone (higher is better).

fig, ax = plt.subplots(figsize=(7, 5.5), layout="constrained")
for (name, clf), colour, marker in zip(
    contestants.items(), ["#009E73", "#D55E00", "#0072B2"], ["^", "s", "o"], strict=True
):
    proba = clf.fit(X, y).predict_proba(X_test)[:, 1]
    brier, precision = brier_score_loss(y_test, proba), average_precision_score(y_test, proba)
    CalibrationDisplay.from_predictions(
        y_test,
        proba,
        n_bins=10,
        strategy="quantile",
        name=f"{name}\nBrier {brier:.3f}, average precision {precision:.2f}",
        color=colour,
        marker=marker,
        ax=ax,
    )
ax.set(xlabel="predicted probability of the rare class", ylabel="share of the rare class among such rows")
ax.legend(loc="upper left", fontsize="small")
plt.show()

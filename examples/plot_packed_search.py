"""
A grid in one pass
==================

Candidates of a grid are small networks, one like the other, that wait for their turns.
:class:`~skreweight.model_selection.PackedGridSearchCV` trains them at once, on all folds, and stage 1 only once for all
that differ in the weighting alone; what it finds is what ``GridSearchCV`` finds.
:class:`~skreweight.inspection.SearchDisplay` draws the scores.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled
from skreweight.inspection import SearchDisplay
from skreweight.model_selection import PackedGridSearchCV

X, y = load_bundled("breast_cancer", n_rare=40, return_X_y=True)
net = ReweightedClassifier(
    weighting="absgd", module__hidden=(30,), warmup_epochs=8, max_epochs=8, random_state=0
)
clf = make_pipeline(StandardScaler(), net)
folds = StratifiedKFold(4, shuffle=True, random_state=0)

# %%
# Six temperatures and four learning rates
# ----------------------------------------
#
# 24 candidates on 4 folds. Learning rates may differ within a pack, as does every number of a weighting.

grid = {
    "reweightedclassifier__weighting__lam": [0.1, 0.3, 1, 3, 10, 30],
    "reweightedclassifier__lr": [3e-4, 1e-3, 3e-3, 1e-2],
}
begin = time.perf_counter()
search = PackedGridSearchCV(clf, grid, scoring="balanced_accuracy", cv=folds).fit(X, y)
print(f"{len(search.cv_results_['params'])} candidates, {time.perf_counter() - begin:.1f} s")
print(f"best: {search.best_params_}, {search.best_score_:.3f}")

# %%
# The frame marks the best of them. Neighbours differ by less than the folds do: with 40 rare rows, four folds tell a
# good region from a bad one, not the best cell from the next.

display = SearchDisplay.from_estimator(search)
display.ax_.set_title("absgd")
plt.show()
best = search.cv_results_["std_test_score"][search.best_index_]
print(f"standard deviation of the best candidate's score over the folds: {best:.3f}")

# %%
# The same scores as candidate by candidate
# -----------------------------------------
#
# On a part of the grid, in the order of its candidates. Scores are the same but for rounding, which in float32 may turn
# a row that lies on the boundary.

part = {"reweightedclassifier__weighting__lam": [0.1, 1, 10]}
packed, plain = (
    kind(clf, part, scoring="balanced_accuracy", cv=folds, refit=False).fit(X, y)
    for kind in (PackedGridSearchCV, GridSearchCV)
)
scores = [s.cv_results_["mean_test_score"] for s in (packed, plain)]
print("packed:", np.round(scores[0], 4), " one by one:", np.round(scores[1], 4))

# %%
# Over one parameter
# ------------------
#
# Of the candidates that share a value, the best is drawn, with its standard deviation over the folds.

SearchDisplay.from_estimator(search, "lam")
plt.show()

"""
A table, answered in one line
=============================

Numbers on wild scales, strings, dates, gaps, and one customer in twenty who does not pay. The table goes in as it is:
:class:`~skreweight.ReweightedEnsembleClassifier` encodes it, trains ten networks at once, each of which holds out
other rows, and calibrates on the rows that were held out.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

from skreweight import ReweightedEnsembleClassifier

# %%
# A made-up table
# ---------------

rng = np.random.default_rng(0)
n = 3000
table = pd.DataFrame(
    {
        "income": rng.lognormal(10, 0.7, n),
        "debt": rng.lognormal(8, 1.2, n),
        "age": rng.integers(18, 80, n).astype(float),
        "job": rng.choice(["clerk", "driver", "nurse", "student", "teacher"], n),
        "since": pd.Timestamp("2015-01-01") + pd.to_timedelta(rng.integers(0, 3600, n), "D"),
    }
)
risk = (
    1.6 * np.log(table["debt"] / table["income"])
    + 1.5 * (table["job"] == "student")
    + (table["since"] - table["since"].min()).dt.days / 1500
    + rng.logistic(scale=0.5, size=n)
)
y = np.where(risk > np.quantile(risk, 0.95), "defaults", "pays")
table.loc[rng.random(n) < 0.1, "income"] = np.nan
table.loc[rng.random(n) < 0.1, "job"] = None
table.head()

# %%
# One line
# --------

X, X_test, y, y_test = train_test_split(table, y, stratify=y, test_size=0.4, random_state=0)
clf = ReweightedEnsembleClassifier(random_state=0).fit(X, y)

# %%
# What it knows of every row, and three ways to decide
# ----------------------------------------------------
#
# ``oof_proba_`` has a probability of every training row by networks that did not see it. From these rows the decision
# is chosen; another one takes no training.

fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4), layout="constrained")
proba = clf.oof_proba_[:, list(clf.classes_).index("defaults")]
for name, colour in (("pays", "#0072B2"), ("defaults", "#D55E00")):
    left.hist(proba[y == name], bins=np.linspace(0, 1, 26), color=colour, alpha=0.6, label=name)
left.set(xlabel="probability of default, out of fold", ylabel="training rows", yscale="log")
left.legend()

decisions = ["argmax", "f1_macro", "balanced_accuracy"]
found, false_alarms = [], []
for decision in decisions:
    predicted = clf.set_params(decision=decision).predict(X_test)
    (hits, _), (alarms, _) = confusion_matrix(y_test, predicted, labels=["defaults", "pays"])
    found.append(hits)
    false_alarms.append(alarms)
places = np.arange(3)
for heights, offset, colour, name in (
    (found, -0.2, "#D55E00", "defaults found"),
    (false_alarms, 0.2, "#0072B2", "false alarms"),
):
    right.bar_label(right.bar(places + offset, heights, 0.38, color=colour, label=name))
right.axhline(np.sum(y_test == "defaults"), color="0.4", linestyle="--", label="defaults there are")
right.set_xticks(places, [f'"{decision}"' for decision in decisions])
right.set(xlabel="decision=", ylabel="test rows")
right.legend()
plt.show()

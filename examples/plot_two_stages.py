"""
The two stages in time
======================

Every weighting trains in two stages: ``warmup_epochs`` of the plain loss, then ``max_epochs`` of the method.
:class:`~skreweight.inspection.HistoryDisplay` draws the history of a fit with the boundary marked.

In stage 2 the training loss counts the rows with their new weights, so that the two stages are on different scales;
the validation loss is the same balanced mean throughout, and says whether the weights help.
"""

import matplotlib.pyplot as plt
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled
from skreweight.inspection import HistoryDisplay

X, y = load_bundled("digits", return_X_y=True)

fig, axes = plt.subplots(2, 3, figsize=(9.6, 5.4), layout="constrained", sharex=True, sharey="row")
for column, name in zip(axes.T, ["none", "two-phase", "ours"], strict=True):
    clf = make_pipeline(
        StandardScaler(),
        ReweightedClassifier(
            weighting=name, validation_data=10, warmup_epochs=10, max_epochs=10, lr=1e-3, random_state=0
        ),
    ).fit(X, y)
    HistoryDisplay.from_estimator(clf[-1], ax=column[0])
    HistoryDisplay.from_estimator(clf[-1], columns="valid_acc", ax=column[1])
    column[0].set(title=f'"{name}"\n', xlabel="")
    column[1].get_legend().remove()
plt.show()

# %%
# The history itself is a DataFrame:

clf[-1].history_frame().tail(3).round(4)

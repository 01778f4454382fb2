"""
Weights over training, by class
===============================

``partial_fit`` goes on where training stands. With ``max_epochs=1`` each call is one more epoch of stage 2, so that
``example_weights_`` can be looked at in between. Stored weights have a scale of their own, which normalising takes out
again: drawn is each class's share of the sum of all weights.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.preprocessing import StandardScaler

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled

X, y = load_bundled("breast_cancer", n_rare=40, return_X_y=True, as_frame=False)
X = StandardScaler().fit_transform(X)
print(f"{np.mean(y == 'pos'):.0%} of the rows are of the rare class")

N_EPOCHS = 15
shares = {}
for name in ("hu", "ours"):
    clf = ReweightedClassifier(
        weighting=name,
        warmup_epochs=10,
        max_epochs=0,
        lr=1e-3,
        batch_size=64,
        keep_best=False,
        random_state=0,
    )
    clf.fit(X, y)  # stage 1
    clf.set_params(max_epochs=1)
    course = []
    for _ in range(N_EPOCHS):
        clf.partial_fit(X, y)
        weights = clf.example_weights_
        course.append(np.nansum(weights[y == "pos"]) / np.nansum(weights))
    shares[name] = course

# %%

trained = ~np.isnan(weights)
fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for (name, course), colour in zip(shares.items(), ["#0072B2", "#D55E00"], strict=True):
    ax.plot(range(1, N_EPOCHS + 1), course, marker="o", color=colour, label=f'weighting="{name}"')
ax.axhline(np.mean(y[trained] == "pos"), color="0.4", linestyle=":", label="share of the training rows")
ax.axhline(0.5, color="0.4", linestyle="--", label="both classes alike")
ax.set(xlabel="epoch of stage 2", ylabel="share of the weights on the rare class", ylim=(0, 1.03))
fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
plt.show()

# %%
# ``"hu"`` leaves a weight at its floor to every row; ``"ours"`` has no floor and moves the network itself as well, so
# that in some epochs a few rows carry all of the weight.

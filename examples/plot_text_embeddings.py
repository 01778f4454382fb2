"""
Imbalanced text embeddings
==========================

Text usually arrives as one embedding a sentence. Here are the film reviews of SST-2, twenty negative ones for a
thousand positive, where the file of embeddings is at hand (:func:`~skreweight.datasets.load_sst` looks in
SKREWEIGHT_DATA). Where it is not, sentences of NumPy's and scikit-learn's own manuals stand in: which of the two does a
sentence come from?

Five rows of each class are held back for the weightings that learn from validation rows.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.metrics import average_precision_score, recall_score

from skreweight import ReweightedClassifier
from skreweight.datasets import load_sst
from skreweight.datasets.imbalance import subsample

# %%
# Embeddings
# ----------


def sentences_of(module):
    """Return the first sentences of the docstrings of a module's functions and classes, each once."""
    texts = {str(getattr(module, name).__doc__ or "").strip().split("\n\n")[0] for name in dir(module)}
    return sorted(" ".join(text.split()) for text in texts if 20 < len(text) < 300)


def from_manuals():
    """Return latent semantic vectors of sentences: 0 is NumPy's, 1 is scikit-learn's."""
    import sklearn
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.discovery import all_estimators, all_functions

    numpys = sorted({*sentences_of(np), *sentences_of(np.linalg), *sentences_of(np.ma)})
    objects = type("Manual", (), dict([*all_estimators(), *all_functions()]))
    theirs = sentences_of(objects)
    y = np.repeat([0, 1], [len(numpys), len(theirs)])
    vectors = make_pipeline(
        TfidfVectorizer(sublinear_tf=True), TruncatedSVD(100, random_state=0), StandardScaler()
    )
    X = vectors.fit_transform([*numpys, *theirs]).astype(np.float32)
    test = np.random.default_rng(0).random(len(y)) < 0.5
    name = f"manuals of NumPy and scikit-learn {sklearn.__version__}"
    return name, (X[~test], y[~test]), (X[test], y[test])


try:
    train, test = (load_sst(2, split=split, return_X_y=True) for split in ("train", "test"))
    source, n_common, n_rare = "SST-2", 1000, 20
except OSError as error:
    print(error)
    source, train, test = from_manuals()
    n_common, n_rare = int(np.sum(train[1] == 1)), 12
X, y = train
X_test, y_test = test
rows = subsample(y, {0: n_rare + 5, 1: n_common}, random_state=0)
X, y = X[rows], y[rows]
print(f"{source}: {len(y)} rows of {X.shape[1]} numbers, {np.sum(y == 0)} of the rare class")

# %%
# The weightings, three draws of validation rows each
# ---------------------------------------------------

names = ["none", "proportion", "absgd", "two-phase", "hu", "ours"]
clf = ReweightedClassifier(validation_data=5, warmup_epochs=10, max_epochs=10, lr=3e-3, batch_size=50)
recalls, precisions = {}, {}
for name in names:
    fits = [clone(clf).set_params(weighting=name, random_state=seed).fit(X, y) for seed in range(3)]
    recalls[name] = [recall_score(y_test, fit.predict(X_test), average=None) for fit in fits]
    precisions[name] = [average_precision_score(y_test == 0, fit.predict_proba(X_test)[:, 0]) for fit in fits]

fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4), layout="constrained", sharey=True)
places = np.arange(len(names))
for code, label, colour in ((1, "common class", "#0072B2"), (0, "rare class", "#D55E00")):
    values = np.array([np.array(recalls[name])[:, code] for name in names])
    left.errorbar(
        values.mean(1),
        places - 0.1 + 0.2 * code,
        xerr=values.std(1, ddof=1),
        fmt="o",
        color=colour,
        capsize=3,
        label=label,
    )
values = np.array([precisions[name] for name in names])
right.errorbar(values.mean(1), places, xerr=values.std(1, ddof=1), fmt="s", color="0.2", capsize=3)
right.axvline(np.mean(y_test == 0), color="0.4", linestyle="--", label="chance")
left.set_yticks(places, [f'"{name}"' for name in names])
left.invert_yaxis()
left.set(xlabel="recall on the test rows", title=source, xlim=(-0.02, 1.02))
right.set(xlabel="average precision of the rare class", title="the ranking")
handles = [*left.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
fig.legend(handles=handles, loc="outside lower center", ncols=3)
plt.show()

# %%
# Dots are means over three seeds, whiskers one standard deviation. Weights move rows across the boundary, from the
# common class to the rare one; the ranking gains nothing by it. Ten draws, tuned settings and rivals are on
# :doc:`/results/sst2`.

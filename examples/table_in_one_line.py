"""The APS truck failures as they come, in one line, beside boosted trees and the balanced forest.

Sensor readings of trucks; "pos" is a failure of the air pressure system, about one row in sixty, and gaps are
everywhere. A needless check costs 10, a missed failure 500. Nothing is chosen on the test rows: for every method the
decisions come from out-of-fold predictions of the training rows. `make demo` runs this in less than two minutes.
"""

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from imblearn.ensemble import BalancedRandomForestClassifier
from imblearn.metrics import geometric_mean_score
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, f1_score, log_loss, precision_recall_curve
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from tqdm import tqdm

from skreweight import ReweightedEnsembleClassifier
from skreweight.datasets import fetch_aps_failure, load_bundled

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FALSE_ALARM, MISSED_FAILURE = 10, 500


def negative_cost(y, predictions):
    """Return what needless checks and missed failures cost, as a score."""
    false_alarms = ((y == "neg") & (predictions == "pos")).sum()
    missed = ((y == "pos") & (predictions == "neg")).sum()
    return -float(FALSE_ALARM * false_alarms + MISSED_FAILURE * missed)


def load(data_home):
    """Return a name, and X and y of the training and of the test rows."""
    try:
        parts = [fetch_aps_failure(data_home, subset=s, return_X_y=True) for s in ("train", "test")]
        return "APS Failure at Scania Trucks", *parts
    except OSError as error:
        print(f"No APS data: {error}")
        print("Running the same on data that scikit-learn brings: the digit 8, made rare, among the others.")
        parts = [load_bundled("digits", subset=s, as_frame=False, return_X_y=True) for s in ("train", "test")]
        return "scikit-learn's digits, the 8 made rare", *parts


def rivals(seed):
    """Return trees by name."""
    forest = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        BalancedRandomForestClassifier(random_state=seed),
    )
    return {
        "boosted trees": HistGradientBoostingClassifier(random_state=seed),
        "boosted trees, balanced": HistGradientBoostingClassifier(class_weight="balanced", random_state=seed),
        "balanced forest": forest,
    }


def figures(y, proba, for_g_mean, for_f1, for_cost, seconds):
    return {
        "G-mean": geometric_mean_score(y, for_g_mean),
        "macro-F1": f1_score(y, for_f1, average="macro"),
        "cost": -negative_cost(y, for_cost),
        "average precision": average_precision_score(y == "pos", proba),
        "log loss": log_loss(y == "pos", proba),
        "seconds": seconds,
    }


def of_ensemble(X, y, X_test, y_test):
    started = time.perf_counter()
    clf = ReweightedEnsembleClassifier(random_state=0, verbose=1).fit(X, y)
    seconds = time.perf_counter() - started
    decisions = [
        clf.set_params(decision=rule).predict(X_test) for rule in ("prior", "f1_macro", negative_cost)
    ]
    proba = clf.predict_proba(X_test)[:, 1]
    return figures(y_test, proba, *decisions, seconds), proba


def of_rival(clf, X, y, X_test, y_test):
    """Fit once, and choose a threshold for each figure on out-of-fold predictions of the training rows."""
    started = time.perf_counter()
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    out_of_fold = cross_val_predict(clone(clf), X, y, cv=folds, method="predict_proba")[:, 1]
    proba = clf.fit(X, y).predict_proba(X_test)[:, 1]
    scores = (geometric_mean_score, lambda y, p: f1_score(y, p, average="macro"), negative_cost)
    decisions = [labels(proba > best_threshold(out_of_fold, y, score)) for score in scores]
    return figures(y_test, proba, *decisions, time.perf_counter() - started), proba


def labels(is_failure):
    return np.where(is_failure, "pos", "neg")


def best_threshold(proba, y, score):
    """Return the best of 200 thresholds, those of rows of the rare class among them."""
    tried = np.unique(np.quantile(proba[y == "pos"], np.linspace(0, 1, 200)))
    return tried[np.argmax([score(y, labels(proba > t)) for t in tried])]


def draw(path, title, y_test, probabilities):
    figure, axis = plt.subplots(figsize=(6.5, 5), layout="constrained")
    colors = {"ensemble": "#D55E00", "boosted trees": "#0072B2", "boosted trees, balanced": "#56B4E9"}
    for name, proba in probabilities.items():
        precision, recall, _ = precision_recall_curve(y_test == "pos", proba)
        label = f"{name} ({average_precision_score(y_test == 'pos', proba):.2f})"
        axis.plot(recall, precision, label=label, color=colors.get(name, "#999999"), drawstyle="steps-post")
    axis.set(xlabel="recall of the failures", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03), title=title)
    axis.legend(frameon=False, title="average precision on the test rows", loc="lower left")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", help="folder with the APS files (default: SKREWEIGHT_DATA, then a download)"
    )
    parser.add_argument("--out", type=Path, default=Path("table.png"), help="where the figure goes")
    arguments = parser.parse_args()
    started = time.perf_counter()
    name, (X, y), (X_test, y_test) = load(arguments.data)
    y, y_test = np.asarray(y), np.asarray(y_test)
    print(f"{name}: {len(y)} training rows ({(y == 'pos').sum()} pos), {len(y_test)} test rows")

    results, probabilities = {}, {}
    results["ensemble"], probabilities["ensemble"] = of_ensemble(X, y, X_test, y_test)
    for method, clf in tqdm(rivals(0).items(), desc="trees"):
        results[method], probabilities[method] = of_rival(clf, X, y, X_test, y_test)

    table = pd.DataFrame(results).T
    formats = {"cost": "{:.0f}", "seconds": "{:.0f}"}
    print("\nTest rows; thresholds of all methods from out-of-fold predictions of the training rows:")
    print(table.to_string(formatters={c: formats.get(c, "{:.3f}").format for c in table.columns}))
    n_pos, n_neg = (y_test == "pos").sum(), (y_test == "neg").sum()
    print(
        f"\ncost: {FALSE_ALARM} per needless check, {MISSED_FAILURE} per missed failure; to check every truck costs "
        f"{FALSE_ALARM * n_neg}, to check none {MISSED_FAILURE * n_pos}.\nSeconds of trees include the fits for "
        "their thresholds."
    )
    draw(arguments.out, name, y_test, probabilities)
    print(f"figure: {arguments.out.resolve()}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()

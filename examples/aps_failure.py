"""Every weighting on the APS truck failures: tuned, compared on the test file, and drawn.

Sensor readings of trucks; "pos" is a failure of the air pressure system, about one row in sixty. A needless check
costs 10, a missed failure 500. Nothing is chosen on the test rows: settings come from a cross-validation on the
first draw of training rows, thresholds from one on each draw.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.impute import SimpleImputer
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    make_scorer,
    precision_recall_curve,
    recall_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    train_test_split,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import QuantileTransformer
from tqdm import tqdm

from skreweight import ReweightedClassifier
from skreweight.datasets import fetch_aps_failure, load_bundled

matplotlib.use("Agg")
import matplotlib.pyplot as plt

try:
    from imblearn.metrics import geometric_mean_score
except ImportError:

    def geometric_mean_score(y_true, y_pred):
        recalls = recall_score(y_true, y_pred, average=None)
        return float(np.prod(recalls) ** (1 / len(recalls)))


FALSE_ALARM, MISSED_FAILURE = 10, 500
N_JOBS = 2

# Every method gives up the same rows for validation: a tenth of the failures, and as many of the others.
COMMON = {"validation_data": 0.1, "lr": 3e-3}
GRIDS = {
    "absgd": [{"clf__weighting__lam": [1, 5, 10]}],
    "ours": [
        {"clf__weighting__step_size": [0.1, 1.0], "clf__weighting__constraint_step_size": [None, 1e-2]},
        {"clf__weighting__lp_norm": [2, 4], "clf__weighting__lp_coef": [1e-3]},
    ],
}
COLORS = {
    "none": "#000000",
    "proportion": "#999999",
    "two-phase": "#CC79A7",
    "ren": "#56B4E9",
    "hu": "#E69F00",
    "ours": "#D55E00",
    "absgd": "#0072B2",
}


def load(data_home):
    """Return a name, and X and y of the training and of the test rows."""
    try:
        train, test = (
            fetch_aps_failure(data_home, subset=s, as_frame=False, return_X_y=True) for s in ("train", "test")
        )
        return "APS Failure at Scania Trucks", *train, *test
    except OSError as error:
        print(f"No APS data: {error}")
        print("Running the same on data that scikit-learn brings: the digit 8, made rare, among the others.")
        train, test = (
            load_bundled("digits", subset=s, as_frame=False, return_X_y=True) for s in ("train", "test")
        )
        return "scikit-learn's digits, the 8 made rare", *train, *test


def draw(X, y, n_rows, seed):
    """Return as many rows as asked for, or four fifths where there are fewer, in the classes' proportions."""
    X, _, y, _ = train_test_split(
        X, y, train_size=min(n_rows, len(y) * 4 // 5), stratify=y, random_state=seed
    )
    return X, y


def folds(seed, n_splits=3):
    return StratifiedKFold(n_splits, shuffle=True, random_state=seed)


def make_model(weighting, seed, epochs, memory, settings=None):
    model = Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", QuantileTransformer(n_quantiles=200, random_state=0)),
            (
                "clf",
                ReweightedClassifier(
                    weighting=weighting, warmup_epochs=epochs, max_epochs=epochs, random_state=seed, **COMMON
                ),
            ),
        ],
        memory=memory,
    )
    return model.set_params(**(settings or {}))


def challenge_cost(y_true, y_pred):
    false_alarms = ((y_true == "neg") & (y_pred == "pos")).sum()
    missed = ((y_true == "pos") & (y_pred == "neg")).sum()
    return FALSE_ALARM * false_alarms + MISSED_FAILURE * missed


def with_tuned_threshold(model, scoring, X, y, seed):
    # Log-odds and not probabilities: their range is covered evenly, and cheap thresholds lie near 0.
    return TunedThresholdClassifierCV(
        model, scoring=scoring, response_method="decision_function", thresholds=200, cv=folds(seed)
    ).fit(X, y)


def evaluate(label, model, seed, X, y, X_test, y_test, threshold="default"):
    """Fit on training rows; return figures, scores and weights by class on the test rows."""
    cheapest = with_tuned_threshold(model, make_scorer(challenge_cost, greater_is_better=False), X, y, seed)
    decisions = cheapest.estimator_
    if threshold != "default":
        decisions = with_tuned_threshold(model, threshold, X, y, seed)
    predicted = decisions.predict(X_test)
    scores = cheapest.estimator_.decision_function(X_test)
    weights = cheapest.estimator_[-1].example_weights_
    trained = np.isfinite(weights)
    share = weights[trained] / weights[trained].mean() if weights[trained].any() else weights[trained]
    return {
        "method": label,
        "seed": seed,
        "balanced accuracy": balanced_accuracy_score(y_test, predicted),
        "macro-F1": f1_score(y_test, predicted, average="macro"),
        "G-mean": geometric_mean_score(y_test, predicted),
        "average precision": average_precision_score(y_test == "pos", scores),
        "cost": challenge_cost(y_test, cheapest.predict(X_test)),
        "scores": scores,
        "weights": {name: share[y[trained] == name] for name in ("neg", "pos")},
    }


def tune(X, y, epochs, memory, quick):
    """Return the best settings of the methods that have some, by cross-validation on training rows."""
    chosen = {}
    for weighting, grid in GRIDS.items():
        started = time.perf_counter()
        n_candidates = sum(int(np.prod([len(values) for values in part.values()])) for part in grid)
        print(f"tuning {weighting}: {n_candidates} settings ...", end=" ", flush=True)
        search = GridSearchCV(
            make_model(weighting, 0, epochs, memory),
            grid,
            scoring="balanced_accuracy",
            cv=folds(0, 2 if quick else 3),
            n_jobs=N_JOBS,
            refit=False,
            error_score="raise",
        ).fit(X, y)
        chosen[weighting] = search.best_params_
        shown = ", ".join(f"{key.rsplit('__', 1)[1]}={value}" for key, value in search.best_params_.items())
        print(
            f"{time.perf_counter() - started:.0f} s: {shown} "
            f"(balanced accuracy {search.best_score_:.3f}, spread over settings "
            f"{np.ptp(search.cv_results_['mean_test_score']):.3f})"
        )
    return chosen


def rows_of_the_table(tuned):
    """Return label, weighting, settings and decision threshold of every row of the table."""
    rows = []
    for name in COLORS:
        rows.append((name, name, {}, "default"))
        if name == "none":
            rows.append(("none, tuned threshold", name, {}, "balanced_accuracy"))
        if name == "proportion":
            rows.append(("proportion + validation rows", name, {"clf__train_on_validation": True}, "default"))
        if name in tuned:
            rows.append((f"{name}, tuned", name, tuned[name], "default"))
    return rows


def table_of(results):
    frame = pd.DataFrame(results)
    figures = ["balanced accuracy", "macro-F1", "G-mean", "average precision", "cost"]
    grouped = frame.groupby("method", sort=False)[figures]
    mean, std = grouped.mean(), grouped.std(ddof=1)
    several = frame["seed"].nunique() > 1
    text = pd.DataFrame(index=mean.index)
    for name in figures:
        digits = 0 if name == "cost" else 3
        text[name] = [
            f"{m:.{digits}f}" + (f" ± {s:.{digits}f}" if several else "")
            for m, s in zip(mean[name], std[name], strict=True)
        ]
    text.index.name = None
    return text


def draw_figure(path, title, results, y_test):
    first = {r["method"]: r for r in results if r["seed"] == 0}
    shown = {name: first.get(f"{name}, tuned", first[name]) for name in COLORS}
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.8, 4.8), layout="constrained")
    draw_precision_and_recall(left, shown, y_test)
    draw_weights(right, {name: shown[name] for name in COLORS if name not in ("none", "two-phase")})
    figure.suptitle(title)
    figure.savefig(path, dpi=170)


def draw_precision_and_recall(axes, shown, y_test):
    for name, color in COLORS.items():
        result = shown[name]
        precision, recall, _ = precision_recall_curve(y_test == "pos", result["scores"])
        label = f"{result['method']} ({result['average precision']:.2f})"
        axes.plot(recall, precision, color=color, label=label, lw=1.6, drawstyle="steps-post")
    axes.axhline((y_test == "pos").mean(), color="0.35", lw=1, ls=(0, (4, 3)), label="chance")
    axes.set(xlabel="recall of the failures", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    axes.set_title("Test rows, first seed\n(average precision)", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper right", labelspacing=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def draw_weights(axes, shown, lowest=1e-3):
    """Draw boxes of log weights by method and class; what is at most ``lowest`` lies in a band of its own."""
    for position, (name, result) in enumerate(shown.items()):
        for offset, label in ((-0.19, "neg"), (0.19, "pos")):
            weights = result["weights"][label]
            above = weights[weights > lowest]
            color = COLORS[name]
            look = {"color": color, "lw": 1.2}
            axes.boxplot(
                above, positions=[position + offset], widths=0.32, whis=(5, 95), showfliers=False,
                patch_artist=True, whiskerprops=look, capprops=look, medianprops={"color": "black", "lw": 1.8},
                boxprops={"facecolor": color if label == "pos" else "white", "edgecolor": color, "lw": 1.2},
            )  # fmt: skip
            share = np.mean(weights <= lowest) if len(weights) else 0.0
            if share > 0:
                axes.text(
                    position + offset, lowest * 0.55, f"{100 * share:.0f} %" if share >= 0.01 else "<1 %",
                    ha="center", va="center", fontsize=8, rotation=90, color="black",
                )  # fmt: skip
    axes.axhspan(lowest * 0.3, lowest, color="0.92", zorder=0)
    axes.axhline(1, color="0.35", lw=1, ls=(0, (4, 3)))
    axes.set_yscale("log")
    axes.set_ylim(bottom=lowest * 0.3)
    decades = [tick for tick in 10.0 ** np.arange(-2, 5) if tick < axes.get_ylim()[1]]
    axes.set_yticks([lowest * 0.55, *decades], ["≤ 1e-3", *(f"{tick:g}" for tick in decades)])
    axes.minorticks_off()
    axes.set_xticks(range(len(shown)), [result["method"].replace(", ", ",\n") for result in shown.values()])
    axes.set(ylabel="weight / mean weight of all rows")
    axes.set_title('Training rows by class:\n"neg" empty, "pos" filled', fontsize=10)
    axes.set_xlabel(
        "Boxes: quartiles; whiskers: 5 to 95 %, both of\nthe rows above the grey band; in it, the share\n"
        "of the class's rows that weigh at most 1e-3.",
        fontsize=8.5,
    )
    axes.spines[["top", "right"]].set_visible(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", help="folder with the APS files (default: SKREWEIGHT_DATA, then a download)"
    )
    parser.add_argument("--out", type=Path, default=Path("aps_failure.png"), help="where the figure goes")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, fewer rows and epochs: a look, no result"
    )
    arguments = parser.parse_args()
    started = time.perf_counter()
    n_rows, n_seeds, epochs = (2000, 1, 4) if arguments.quick else (4000, 3, 4)

    name, X, y, X_test, y_test = load(arguments.data)
    drawn = {seed: draw(X, y, n_rows, seed) for seed in range(n_seeds)}
    n_drawn = len(drawn[0][1])
    described = (
        f"{name}: {len(y)} training rows ({(y == 'pos').sum()} pos), of which each seed draws {n_drawn}; "
        f"{len(y_test)} test rows ({(y_test == 'pos').sum()} pos)"
    )
    print(described)

    with tempfile.TemporaryDirectory() as memory:
        tuned = tune(*drawn[0], epochs, memory, arguments.quick)
        tasks = [
            delayed(evaluate)(
                label, make_model(weighting, seed, epochs, memory, settings), seed, *drawn[seed],
                X_test, y_test, threshold,
            )
            for seed in drawn
            for label, weighting, settings, threshold in rows_of_the_table(tuned)
        ]  # fmt: skip
        # One thread a worker, or two workers of a small machine get in each other's way.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        finished = Parallel(n_jobs=N_JOBS, return_as="generator")(tasks)
        results = list(tqdm(finished, total=len(tasks), desc="fits of the table", unit="row"))

    order = {label: i for i, (label, *_) in enumerate(rows_of_the_table(tuned))}
    results.sort(key=lambda r: order[r["method"]])
    print(f"\nTest rows, mean ± std over {n_seeds} seeds (rows drawn, validation rows and networks differ):")
    print(table_of(results).to_string())
    n_pos, n_neg = (y_test == "pos").sum(), (y_test == "neg").sum()
    print(
        f"\ncost: {FALSE_ALARM} per needless check, {MISSED_FAILURE} per missed failure, at the threshold that is "
        f"cheapest out of fold on training rows;\n      to check every truck costs {FALSE_ALARM * n_neg}, to check "
        f"none {MISSED_FAILURE * n_pos}. The other decisions are those of predict."
    )
    draw_figure(arguments.out, described.split(":")[0], results, y_test)
    print(f"figure: {arguments.out.resolve()}")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()

"""A tour of what the estimator does inside scikit-learn, on real measurements of tumours; under a minute.

Breast cancer data that scikit-learn brings along, with the malignant cases ("pos") thinned out. Read it from top to
bottom like a notebook: each part prints what it found, and checks what it claims.
"""

import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import sklearn
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    make_scorer,
    recall_score,
)
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, LRScheduler

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled

STARTED = time.perf_counter()


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


title("The data")
X, y = load_bundled("breast_cancer", n_rare=60, return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, stratify=y, test_size=0.4, random_state=0)
print(f"{len(X)} training rows, {len(X_test)} test rows, {X.shape[1]} columns")
print(y.value_counts().to_string())
folds = StratifiedKFold(3, shuffle=True, random_state=0)
small = {"module__hidden": (16,), "warmup_epochs": 5, "max_epochs": 5, "batch_size": 64, "random_state": 0}

title("1. A pipeline over a DataFrame, cross-validated")
sizes = [c for c in X.columns if "area" in c or "radius" in c or "perimeter" in c]
columns = ColumnTransformer([("skewed", PowerTransformer(), sizes)], remainder=StandardScaler())
pipeline = make_pipeline(columns, ReweightedClassifier(weighting="hu", **small))
scores = cross_validate(pipeline, X, y, cv=folds, scoring=["balanced_accuracy", "roc_auc"])
for name in ("test_balanced_accuracy", "test_roc_auc"):
    print(f"{name[5:]}: {scores[name].mean():.3f} ± {scores[name].std():.3f}")

title("2. Searching over methods and their parameters")
net = "reweightedclassifier__"
grid = GridSearchCV(
    make_pipeline(StandardScaler(), ReweightedClassifier(**small)),
    [
        {f"{net}weighting": ["none", "proportion"]},
        {f"{net}weighting": ["absgd"], f"{net}weighting__lam": [0.5, 5]},
        {f"{net}weighting": ["ours"], f"{net}weighting__lp_coef": [0, 1e-3], f"{net}validation_data": [5]},
    ],
    scoring=["balanced_accuracy", "neg_log_loss"],
    refit="balanced_accuracy",
    cv=folds,
).fit(X, y)
results = grid.cv_results_
for params, score in zip(results["params"], results["mean_test_balanced_accuracy"], strict=True):
    print(f"{score:.3f}  { ({k.removeprefix(net): v for k, v in params.items()}) }")
print(
    f"test rows, best setting: balanced accuracy {balanced_accuracy_score(y_test, grid.predict(X_test)):.3f}"
)

title("3. Validation rows of one's own, preprocessed on the way")
rare = np.flatnonzero(y == "pos")[:8]
common = np.flatnonzero(y == "neg")[:8]
own = np.concatenate([rare, common])
rest = np.setdiff1d(np.arange(len(y)), own)
with sklearn.config_context(enable_metadata_routing=True):
    routed = Pipeline(
        [
            ("scale", StandardScaler()),
            ("net", ReweightedClassifier(weighting="ours", **small).set_fit_request(X_val=True, y_val=True)),
        ],
        transform_input=["X_val"],
    )
    routed.fit(X.iloc[rest], y.iloc[rest], X_val=X.iloc[own], y_val=y.iloc[own])
weights = routed["net"].example_weights_
assert weights.shape == (len(rest),)
for label in routed.classes_:
    print(f'rows of "{label}" that weigh anything: {(weights[y.iloc[rest] == label] > 0).mean():.0%}')

title("4. A threshold for a cost, and calibrated probabilities")


def cost(y_true, y_pred):
    """A missed case costs ten needless checks."""
    return 10 * np.sum((y_true == "pos") & (y_pred == "neg")) + np.sum((y_true == "neg") & (y_pred == "pos"))


base = make_pipeline(StandardScaler(), ReweightedClassifier(weighting="absgd", **small))
tuned = TunedThresholdClassifierCV(base, scoring=make_scorer(cost, greater_is_better=False), cv=folds).fit(
    X, y
)
plain = base.fit(X, y)
print(f"cost at the usual threshold {cost(y_test, plain.predict(X_test))}, ", end="")
print(f"at {tuned.best_threshold_:.2f}: {cost(y_test, tuned.predict(X_test))}")
calibrated = CalibratedClassifierCV(base, method="sigmoid", cv=folds).fit(X, y)
for name, model in (("as it is", plain), ("calibrated", calibrated)):
    print(f"Brier score {name}: {brier_score_loss(y_test == 'pos', model.predict_proba(X_test)[:, 1]):.4f}")

title("5. Beside other models, and what it looks at")
members = [("net", grid.best_estimator_), ("linear", make_pipeline(StandardScaler(), LogisticRegression()))]
voting = VotingClassifier(members, voting="soft").fit(X, y)
precision = average_precision_score(y_test == "pos", voting.predict_proba(X_test)[:, 1])
print(f"average precision of both together: {precision:.3f}")
importance = permutation_importance(
    plain, X_test, y_test, scoring="balanced_accuracy", n_repeats=3, random_state=0
)
top = np.argsort(importance.importances_mean)[::-1][:3]
print("most important columns:", ", ".join(X.columns[top]))

title("6. Callbacks, the table of both stages, and the history as a DataFrame")
scaler = StandardScaler().set_output(transform="pandas").fit(X)
with tempfile.TemporaryDirectory() as folder:
    checkpoint = Checkpoint(monitor="valid_loss_best", dirname=folder, f_weighting="weighting.pt")
    clf = ReweightedClassifier(
        weighting="ours",
        verbose=1,
        diagnostics=True,
        validation_data=8,
        callbacks=[
            ("recall", EpochScoring(make_scorer(recall_score), name="valid_recall", lower_is_better=False)),
            ("rate", LRScheduler(policy="StepLR", step_size=4, gamma=0.5)),
            ("checkpoint", checkpoint),
            ("stop", EarlyStopping(patience=4)),
        ],
        restart_stage_two=True,
        **small,
    ).fit(scaler.transform(X), y)
    history = clf.history_frame()
    print(
        history.loc[history["stage"] == 2, ["train_loss", "validation_loss_before", "validation_loss_after"]]
    )

    title("7. Saving, loading, going on")
    best = ReweightedClassifier(weighting="ours", **small)
    best.load_params(checkpoint=checkpoint)  # the checkpoint says how many columns and classes there are
    print(
        f"loaded the checkpoint of epoch {best.progress_.epochs_done}, {len(best.history_)} epochs of history"
    )
    joblib.dump(clf, Path(folder) / "net.joblib")
    again = joblib.load(Path(folder) / "net.joblib")
assert (again.predict(scaler.transform(X_test)) == clf.predict(scaler.transform(X_test))).all()
np.testing.assert_array_equal(again.example_weights_, clf.example_weights_)
epochs = len(again.history_)
again.set_params(verbose=0, max_epochs=2, callbacks=None).partial_fit(scaler.transform(X), y)
print(f"{len(again.history_) - epochs} more epochs of stage 2 after loading")

print(f"\n{time.perf_counter() - STARTED:.0f} seconds in all")

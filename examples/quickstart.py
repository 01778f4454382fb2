"""The example of the README, on handwritten digits of which one is made rare; about a minute on one core."""

from sklearn.impute import SimpleImputer
from sklearn.metrics import classification_report
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from skreweight import ReweightedClassifier
from skreweight.datasets import load_bundled

X, y = load_bundled(return_X_y=True)  # 1,623 rows "neg" and 60 rows "pos"
X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)

clf = make_pipeline(
    SimpleImputer(), QuantileTransformer(), ReweightedClassifier(weighting="ours", random_state=0)
)
grid = GridSearchCV(
    clf,
    [
        {
            "reweightedclassifier__weighting": ["absgd"],
            "reweightedclassifier__weighting__lam": [0.1, 1, 10],
        },
        {
            "reweightedclassifier__weighting": ["ours"],
            "reweightedclassifier__weighting__step_size": [1e-2, 1e-1, 1],
            "reweightedclassifier__weighting__lp_norm": [2, 4],
            "reweightedclassifier__weighting__lp_coef": [0, 1e-4, 1e-2],
        },
    ],
    scoring="balanced_accuracy",
).fit(X, y)

print(f"chosen by cross-validation: {grid.best_params_}")
print(classification_report(y_test, grid.predict(X_test), digits=3))

weights = grid.best_estimator_[-1].example_weights_  # one per training row; NaN: held out for validation
for label in grid.classes_:
    learned = weights[y == label]
    print(f'mean weight of the rows "{label}": {learned[learned == learned].mean():.3g}')

"""The rows of a table: every weighting, and the controls without which no row means much."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from benchmarks.paper_tables.controls import (
    Method,
    boosted_trees,
    from_scikit_learn,
    in_an_ensemble,
    logistic_regression,
    nearest_class_mean,
    oversampled,
    random_rows,
    scikit_learn_mlp,
    smote_rows,
)
from benchmarks.paper_tables.experiments import Experiment
from skreweight.losses import FocalLoss, LDAMLoss, LogitAdjustedLoss
from skreweight.weighting import get_weighting


class _Weighted:
    """A network with a weighting; ``settings`` of the grid go before the fixed ones."""

    def __init__(self, weighting: str, **fixed: Any) -> None:
        self.weighting, self.fixed = weighting, fixed

    def __call__(self, experiment: Experiment, **settings: Any) -> Any:
        with warnings.catch_warnings():  # the rows of "tau-norm" and "lws" say what is to be said
            warnings.filterwarnings("ignore", "With two classes weighting")
            return experiment.network(weighting=self.weighting, **{**self.fixed, **settings})


#: The validation rows are training rows too: no better use of them is a reason to learn weights.
_ALL: dict[str, Any] = {"train_on_validation": True}
_CB = {"class_weight": "effective-number", "defer_class_weight": True}
_FOCAL = {"criterion": FocalLoss, "criterion__gamma": 1.0}
_LDAM = {"criterion": LDAMLoss, "module__normalized_head": True}

#: Those of Liu et al., and ABSGD.
_LIU: dict[str, Method] = {
    "plain": _Weighted("none"),
    "proportion": _Weighted("proportion"),
    "two-phase": _Weighted("two-phase"),
    "Ren et al.": _Weighted("ren"),
    "Hu et al.": _Weighted("hu"),
    "Hu et al., floor 0": _Weighted("hu", weighting__floor=0.0),
    "Hu et al. + R": _Weighted("hu"),
    "ours": _Weighted("ours"),
    "ABSGD": _Weighted("absgd"),
}
#: What else learns weights, samples, trains the last layer anew or corrects the logits.
_MORE: dict[str, Method] = {
    "META": _Weighted("meta"),
    "Meta-Weight-Net": _Weighted("meta-weight-net"),
    "TERM": _Weighted("term"),
    "top loss": _Weighted("top-loss"),
    "EG": _Weighted("eg"),
    "balanced sampling": _Weighted("none", sampling="balanced"),
    "balanced sampling in stage 2": _Weighted("none", sampling="balanced", defer_sampling=True),
    "cRT": _Weighted("crt"),
    "LWS": _Weighted("lws"),
    "tau-norm": _Weighted("tau-norm"),
    "logit adjustment, post hoc": _Weighted("logit-adjustment"),
}
_WITH_VALIDATION_ROWS: dict[str, Method] = {
    "plain + validation rows": _Weighted("none", **_ALL),
    "proportion + validation rows": _Weighted("proportion", **_ALL),
    "logit adjustment + validation rows": _Weighted("none", criterion=LogitAdjustedLoss, **_ALL),
    "logit adjustment, post hoc + validation rows": _Weighted("logit-adjustment", **_ALL),
    "random oversampling + validation rows": oversampled(random_rows),
    "SMOTE + validation rows": oversampled(smote_rows),
    "balanced logistic regression on X + validation rows": from_scikit_learn(
        logistic_regression, validation_rows=True
    ),
    "nearest class mean on X + validation rows": nearest_class_mean(on_features=False, validation_rows=True),
    "nearest class mean on features + validation rows": nearest_class_mean(
        on_features=True, validation_rows=True
    ),
    "boosted trees + validation rows": from_scikit_learn(boosted_trees, validation_rows=True),
    "MLPClassifier + validation rows": from_scikit_learn(scikit_learn_mlp, validation_rows=True),
    "ensemble + validation rows": in_an_ensemble(None),
    "ensemble of plain + validation rows": in_an_ensemble("none"),
    "ensemble of ours + validation rows": in_an_ensemble("ours"),
}
_WITHOUT_THEM: dict[str, Method] = {
    "balanced logistic regression on X": from_scikit_learn(logistic_regression, validation_rows=False),
    "nearest class mean on X": nearest_class_mean(on_features=False, validation_rows=False),
    "nearest class mean on features": nearest_class_mean(on_features=True, validation_rows=False),
    "boosted trees": from_scikit_learn(boosted_trees, validation_rows=False),
    "MLPClassifier": from_scikit_learn(scikit_learn_mlp, validation_rows=False),
}
#: Table 1 of Qi et al.
_QI_1: dict[str, Method] = {
    "SGD (CE)": _Weighted("none"),
    "ABSGD (CE)": _Weighted("absgd"),
    "SGD (Focal)": _Weighted("none", **_FOCAL),
    "ABSGD (Focal)": _Weighted("absgd", **_FOCAL),
}
#: Table 2 of Qi et al., and what Kang et al. train in stage 2. META has its class weights itself.
_QI_2: dict[str, Method] = {
    "resampling (CE)": _Weighted("none", sampling="effective-number"),
    "SGD (CB-CE)": _Weighted("none", **_CB),
    "META (CB-CE)": _Weighted("meta"),
    "ABSGD (CB-CE)": _Weighted("absgd", **_CB),
    "SGD (CB-Focal)": _Weighted("none", **_CB, **_FOCAL),
    "META (CB-Focal)": _Weighted("meta", **_FOCAL),
    "ABSGD (CB-Focal)": _Weighted("absgd", **_CB, **_FOCAL),
    "SGD (LDAM)": _Weighted("none", **_LDAM),
    "SGD (CB-LDAM)": _Weighted("none", **_CB, **_LDAM),
    "META (CB-LDAM)": _Weighted("meta", **_LDAM),
    "ABSGD (CB-LDAM)": _Weighted("absgd", **_CB, **_LDAM),
    "cRT (CE)": _Weighted("crt"),
    "LWS (CE)": _Weighted("lws", weighting__lr=0.2),
    "tau-norm (CE)": _Weighted("tau-norm"),
    "NCM (CE)": nearest_class_mean(on_features=True, validation_rows=False),
    "logit adjustment, post hoc (CE)": _Weighted("logit-adjustment"),
}
METHODS: dict[str, Method] = {
    **_LIU, **_MORE, **_WITH_VALIDATION_ROWS, **_WITHOUT_THEM, **_QI_1, **_QI_2
}  # fmt: skip


def is_default(method: str, settings: Mapping[str, Any]) -> bool:
    """Whether the settings leave every parameter of a method's weighting at the package's default."""
    weighting = getattr(METHODS[TUNED.get(method, method)], "weighting", "none")
    defaults = get_weighting(weighting).get_params()
    own = {k.removeprefix("weighting__"): v for k, v in settings.items() if k.startswith("weighting__")}
    return all(defaults[name] == value for name, value in own.items())


#: Rows that are another row's fits, decided with the threshold tuned on the validation rows.
TUNED = {"plain, tuned threshold": "plain"}

#: The rows of each kind of table, in their order.
LIU_METHODS = (*_LIU, *_MORE, *_WITH_VALIDATION_ROWS)
#: AllCNNC ends in pooling: it has no last layer to train anew, to normalise or to take features from. The ensemble
#: is for tables.
IMAGE_METHODS = tuple(
    name
    for name in (*_LIU, *_WITH_VALIDATION_ROWS)
    if not name.startswith(("SMOTE", "balanced logistic", "nearest", "ensemble"))
)
#: Table 5 of Qi et al.: online, and offline with class weights from stage 2 on.
IMDB_METHODS = (*_QI_1, *(f"{name} ({loss})" for loss in ("CB-CE", "CB-Focal") for name in ("SGD", "ABSGD")))
QI_METHODS, QI2_METHODS = tuple(_QI_1), tuple(_QI_2)
#: All with the same rows, so that each has validation rows to tune a threshold on.
BENCHMARK_METHODS = (*_LIU, *_MORE, *_WITHOUT_THEM)
#: Those whose defaults are chosen by the trials.
TRIAL_METHODS = ("plain", "two-phase", "Ren et al.", "Hu et al.", "Hu et al., floor 0", "ours", *_MORE)

"""The methods, each fitted on many draws of one size at once: networks are trained as packs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold

from benchmarks.trusted.draws import Draw
from skreweight import ReweightedClassifier, ReweightedEnsembleClassifier
from skreweight._pack.fit import fit_on_tables
from skreweight._pack.tables import Table
from skreweight.inspection import label_quality

N_FOLDS = 5


class Fitted(NamedTuple):
    """What a method says about a draw.

    Attributes
    ----------
    p_test, p_val : ndarray, probability of the rare class
    decided : ndarray of shape (n_test,), the method's own decision
    quality : ndarray of shape (n_train,) or None, low where a training row looks mislabelled
    """

    p_test: NDArray[np.float64]
    p_val: NDArray[np.float64]
    decided: NDArray[np.int64]
    quality: NDArray[np.float64] | None = None


#: (draws, seeds) -> for each draw what came out, or the error
Method = Callable[[Sequence[Draw], Sequence[int]], list[Fitted | Exception]]


def network(weighting: str, *, all_rows: bool = False, **settings: Any) -> Method:
    """A network of the package's defaults; the validation rows choose the epoch, and are what is learned from.

    ``all_rows``: they are training rows as well.
    """

    def fit(draws: Sequence[Draw], seeds: Sequence[int]) -> list[Fitted | Exception]:
        if all_rows:
            draws = [_with_validation_rows(draw) for draw in draws]
        tables = [Table(d.X, d.y, None, d.X_val, d.y_val) for d in draws]
        nets = [_net(weighting, seed, **settings) for seed in seeds]
        errors = _fit(nets, tables, list(range(len(draws))), [None] * len(draws))
        learned = weighting in LEARNED
        return [
            error or _of(net, draw, net.example_weights_ if learned else None)
            for net, draw, error in zip(nets, draws, errors, strict=True)
        ]

    return fit


def on_all_rows(make: Callable[[int], Any]) -> Method:
    """Another estimator, on training and validation rows alike."""

    def fit(draws: Sequence[Draw], seeds: Sequence[int]) -> list[Fitted | Exception]:
        return [
            _tried(lambda d=draw, s=seed: _alone(make(s), d)) for draw, seed in zip(draws, seeds, strict=True)
        ]

    return fit


def pruned(weighting: str) -> Method:
    """Confident learning (Northcutt et al. 2021): rows that look mislabelled are left out.

    Out-of-fold probabilities are those of plain networks on training and validation rows. A row goes where the class
    that passes its own threshold (the mean probability of the class among the rows labelled so) with the
    largest probability is another than the row's label; no more than half of a class goes.
    """

    def fit(draws: Sequence[Draw], seeds: Sequence[int]) -> list[Fitted | Exception]:
        found: list[Fitted | Exception] = []
        for draw, seed, proba in zip(draws, seeds, out_of_fold(draws, seeds), strict=True):
            if isinstance(proba, Exception):
                found.append(proba)
                continue
            kept = ~mislabelled(proba, draw.y)
            cut = draw._replace(X=draw.X[kept], y=draw.y[kept])
            (one,) = network(weighting)([cut], [seed])
            quality = label_quality(proba, draw.y)
            found.append(one if isinstance(one, Exception) else one._replace(quality=quality))
        return found

    return fit


def out_of_fold(draws: Sequence[Draw], seeds: Sequence[int]) -> list[NDArray[np.float64] | Exception]:
    """Return out-of-fold probabilities of the training rows, by plain networks: N_FOLDS a draw, all packed."""
    folds = [
        list(StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(draw.X, draw.y))
        for draw, seed in zip(draws, seeds, strict=True)
    ]
    tables = [Table(d.X, d.y, None, d.X_val, d.y_val) for d in draws]
    place = [(k, train, held) for k, own in enumerate(folds) for train, held in own]
    nets = [_net("none", seeds[k]) for k, _, _ in place]
    errors = _fit(nets, tables, [k for k, _, _ in place], [train for _, train, _ in place])
    found: list[NDArray[np.float64] | Exception] = [np.full((len(d.y), 2), np.nan) for d in draws]
    for net, (k, _, held), error in zip(nets, place, errors, strict=True):
        own = found[k]
        if isinstance(own, Exception):
            continue
        if error is not None:
            found[k] = error
        else:
            own[held] = net.predict_proba(draws[k].X[held])
    return found


def mislabelled(proba: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows confident learning would leave out."""
    thresholds = np.array([proba[y == label, label].mean() for label in (0, 1)])
    passing = np.where(proba >= thresholds, proba, -np.inf)
    other = passing.argmax(axis=1)
    wrong = np.isfinite(passing.max(axis=1)) & (other != y)
    for label in (0, 1):
        candidates = np.flatnonzero(wrong & (y == label))
        most = int((y == label).sum()) // 2
        spared = candidates[np.argsort(proba[candidates, label], kind="stable")][most:]
        wrong[spared] = False
    return np.asarray(wrong)


def _with_validation_rows(draw: Draw) -> Draw:
    X, y = np.concatenate([draw.X, draw.X_val]), np.concatenate([draw.y, draw.y_val])
    return draw._replace(X=X, y=y)


def _net(weighting: str, seed: int, **settings: Any) -> ReweightedClassifier:
    return ReweightedClassifier(weighting=weighting, random_state=seed, **settings)


def _fit(
    nets: Sequence[ReweightedClassifier], tables: Sequence[Table], of: list[int], rows: list[Any]
) -> list[Exception | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows are both trained and validated on, on purpose
        fits = fit_on_tables(nets, tables, of, rows)
    return [e if e is None or isinstance(e, Exception) else RuntimeError(str(e)) for e in fits.errors]


def _tried(make: Callable[[], Fitted]) -> Fitted | Exception:
    try:
        return make()
    except (ValueError, RuntimeError) as error:
        return error


def _alone(classifier: Any, draw: Draw) -> Fitted:
    every = _with_validation_rows(draw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        classifier.fit(every.X, every.y)
    quality = None
    if hasattr(classifier, "oof_proba_"):
        quality = label_quality(classifier.oof_proba_[: len(draw.y)], draw.y)
    return _of(classifier, draw, quality)


def _of(classifier: Any, draw: Draw, quality: Any) -> Fitted:
    p_test, p_val = (
        np.asarray(classifier.predict_proba(X), dtype=np.float64)[:, 1] for X in (draw.X_test, draw.X_val)
    )
    decided = np.asarray(classifier.predict(draw.X_test), dtype=np.int64)
    return Fitted(p_test, p_val, decided, None if quality is None else np.asarray(quality, dtype=np.float64))


#: Weightings that learn a weight for every row from the validation rows.
LEARNED = ("ren", "hu", "ours", "meta-weight-net")

METHODS: dict[str, Method] = {
    "none": network("none"),
    "proportion": network("proportion"),
    "proportion + v": network("proportion", all_rows=True),
    "pruned, none": pruned("none"),
    "pruned, proportion": pruned("proportion"),
    "boosted trees": on_all_rows(lambda seed: HistGradientBoostingClassifier(random_state=seed)),
    "ensemble": on_all_rows(lambda seed: ReweightedEnsembleClassifier(random_state=seed)),
    "two-phase": network("two-phase"),
    "ren": network("ren"),
    "hu": network("hu", weighting__floor=0.0),
    "ours": network("ours"),
    "meta-weight-net": network("meta-weight-net"),
}

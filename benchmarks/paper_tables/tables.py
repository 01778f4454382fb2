"""The tables by name: tasks (columns of a paper's table), methods (its rows) and how a draw is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.paper_tables import protocols, recipes, reviews
from benchmarks.paper_tables.experiments import Experiment
from benchmarks.paper_tables.methods import (
    BENCHMARK_METHODS,
    IMAGE_METHODS,
    IMDB_METHODS,
    LIU_METHODS,
    QI2_METHODS,
    QI_METHODS,
    TRIAL_METHODS,
    TUNED,
)
from benchmarks.paper_tables.recipes import Recipe


@dataclass(frozen=True)
class Table:
    """``tasks`` maps a task's name to its protocol and the recipe of a grid; ``note`` is what a reader must know."""

    title: str
    tasks: dict[str, tuple[Callable[..., protocols.Data], Callable[[str], Recipe]]]
    methods: tuple[str, ...]
    tuned: tuple[str, ...] = ()
    note: str = ""

    def experiment(self, task: str, seed: int, grid: str, data_home: str | None) -> Experiment:
        """Draw the rows of a seed."""
        protocol, recipe = self.tasks[task]
        return Experiment(protocol(data_home=data_home, seed=seed), recipe(grid), seed)


def _same(recipe: Callable[[], Recipe]) -> Callable[[str], Recipe]:
    return lambda grid: recipe()


def _aps(imputation: str, scaling: str) -> Any:
    return partial(protocols.aps_failure, imputation=imputation, scaling=scaling), _same(recipes.aps)


def _text(k: int, n_rare: int, n_common: int) -> dict[str, Any]:
    """The small network on embeddings as they are, and the paper's on standardised ones."""
    draw = partial(protocols.sentences, k=k, n_rare=n_rare, n_common=n_common)
    ratio = f"{n_rare}:{n_common}"
    return {
        ratio: (partial(draw, standardised=False), _same(recipes.small_text)),
        f"{ratio}, TextFCN": (partial(draw, standardised=True), _same(recipes.text)),
    }


def _apples(n_rare: int) -> Any:
    return partial(protocols.apple_or_fish, n_rare=n_rare, n_common=400), recipes.apples


def _small_apples(n_rare: int) -> Any:
    return partial(protocols.apple_or_fish, n_rare=n_rare, n_common=400, side=16), _same(recipes.small_apples)


def _reviews() -> dict[str, Any]:
    """A tenth of the negative reviews, as the paper; the last one is small enough for a CPU."""
    half = {"n_negative": 625, "n_positive": 6250, "n_test": 6000}
    small = {"n_negative": 200, "n_positive": 2000, "n_test": 2000}
    return {
        "625:6250, bidirectional LSTM": (partial(reviews.as_words, **half), recipes.reviews),
        "625:6250, tf-idf embeddings": (
            partial(reviews.as_embeddings, **half),
            _same(recipes.embedded_reviews),
        ),
        "200:2000, bidirectional LSTM": (partial(reviews.as_words, **small), recipes.reviews),
    }


def _long_tail() -> dict[str, Any]:
    """The whole table wants a GPU; without one a stand-in shows that everything runs."""
    if torch.cuda.is_available():
        return {"long-tailed, ratio 100": (protocols.long_tailed_cifar, recipes.long_tail)}
    stand_in = partial(protocols.long_tailed_cifar, share=0.004)
    return {"stand-in (no GPU)": (stand_in, lambda grid: recipes.long_tail("quick"))}


BENCHMARK_SETS = (
    "ecoli",
    "satimage",
    "abalone",
    "sick_euthyroid",
    "us_crime",
    "oil",
    "wine_quality",
    "letter_img",
    "yeast_me2",
    "mammography",
)

#: Six of the benchmark's sets, of few and of many features and rows.
TRIAL_SETS = ("satimage", "abalone", "us_crime", "oil", "letter_img", "yeast_me2")


def _validation_sizes() -> dict[str, Any]:
    """The sentences at 20 : 1000 with fewer and with more validation rows."""
    draw, recipe = _text(2, 20, 1000)["20:1000"]
    return {
        f"{n} validation rows a class": (_aside(partial(draw, scored_on="dev", n_validation=n)), recipe)
        for n in (1, 2, 5, 10, 20, 50)
    }


_TUNED_ROWS = tuple(TUNED)


def _aside(protocol: Callable[..., protocols.Data]) -> Callable[..., protocols.Data]:
    """A protocol's draws from seed 100 on, which no table of a paper uses."""

    def draw(*, data_home: str | None, seed: int) -> protocols.Data:
        return protocol(data_home=data_home, seed=seed + 100)

    return draw


def _trials() -> dict[str, Any]:
    """Draws for choosing the defaults: sentences scored on the dev split, trucks drawn and folds cut anew."""
    tasks: dict[str, Any] = {}
    for n_rare in (20, 100):
        draw, recipe = _text(2, n_rare, 1000)[f"{n_rare}:1000"]
        tasks[f"SST-2, {n_rare}:1000, dev"] = _aside(partial(draw, scored_on="dev")), recipe
    draw, recipe = _aps("mean", "min-max")
    tasks["APS, 10:10000, mean imputation"] = _aside(draw), recipe
    for name in TRIAL_SETS:
        tasks[name] = _aside(partial(protocols.benchmark_fold, name=name)), _same(recipes.tabular)
    return tasks


def _restarts() -> dict[str, Any]:
    """The trials' draws, and the sentences with a network as wide as their embeddings."""
    draw = partial(protocols.sentences, k=2, n_rare=20, n_common=1000, scored_on="dev", standardised=True)
    wide = {"SST-2, 20:1000, dev, 384-384-10": (_aside(draw), _same(recipes.wide_text))}
    return {**wide, **_trials()}


_EMBEDDINGS = (
    "Features are 384 numbers of a sentence encoder that was not fine-tuned; the published figures are on "
    "features of a BERT fine-tuned on 500 sentences a class."
)
_APS = (
    "Class-mean imputation fills a missing value with the mean of the row's own class, test rows included, as "
    "the paper did: it leaks labels. Mean imputation uses training rows only. Where the files are partial, the "
    "test has 300 rows a class, the paper's 1,000."
)
_SMALL = (
    '"16 pixels" is a stand-in that two cores can train: images of 16 by 16 pixels, a network a quarter as wide and '
    "without dropout, 40 epochs of Adam in stage 1 and 5 in stage 2."
)
_REVIEWS = (
    "Reviews are of the 25,000 of IMDB's training half, drawn for each seed into training and test rows; the paper "
    "trained on 12,500 positive and 1,250 negative ones and tested on the test half. Embeddings are singular "
    "directions of tf-idf. There are no validation rows: λ is chosen on test, as in the paper, and too good."
)
_QI = (
    "Without a GPU the rows are a stand-in, some images and three epochs: they show that everything runs and "
    "nothing else; published figures are of the whole table. Where the test images are fewer than 10,000, they are on "
    "other rows."
)
_QI_2 = (
    f"{_QI} META and tau-norm hold out 10 training images of each class (of the stand-in: 1), which the published META "
    "has beside them; META (CB) has class weights of its own. Qi et al. print cRT, LWS, tau-norm and NCM for other "
    "data only. Not run: OLTR and range loss, losses of a whole batch with a memory or centres of their own, which "
    "give no loss to a row and are behind cRT in their own tables; RECOVER, whose step is no weighted mean of "
    "gradients and whose average may fall below 0 (its published figures are on other data)."
)
_RESTART = (
    "Whether stage 2 begins with a new optimiser, on draws of seeds from 100 on, every method at its defaults, the "
    "best epoch kept. The scores are those of the trials."
)
_TRIALS = (
    "What defaults were chosen by. SST-2 is scored on its dev split; APS and the sets of imbalanced-learn's "
    "benchmark on draws of seeds from 100 on, which no table has. Test accuracy, and G-mean for the benchmark's sets, "
    "whose test rows are not balanced. Where a row does not say otherwise, the best step is kept and stage 2 begins "
    "with a new optimiser."
)
_SIZES = "Every method at its defaults, on draws of seeds from 100 on, scored on the dev split."
_FOLDS = (
    "Seeds are folds. Rows are the defaults of every method, the best step kept; a failed fit counts as 0."
)

TABLES: dict[str, Table] = {
    "liu9": Table(
        "APS failure, 10 : 10000 (Liu et al., Table 9)",
        {
            "class-mean imputation, min-max": _aps("class-mean", "min-max"),
            "mean imputation, min-max": _aps("mean", "min-max"),
            "mean imputation, quantile": _aps("mean", "quantile"),
        },
        LIU_METHODS,
        _TUNED_ROWS,
        _APS,
    ),
    "liu5": Table(
        "SST-2 sentence embeddings (Liu et al., Table 5)",
        {**_text(2, 10, 1000), **_text(2, 20, 1000), **_text(2, 100, 1000)},
        LIU_METHODS,
        _TUNED_ROWS,
        _EMBEDDINGS,
    ),
    "liu4": Table(
        "SST-5 sentence embeddings (Liu et al., Table 4)",
        _text(5, 50, 500),
        LIU_METHODS,
        note=_EMBEDDINGS,
    ),
    "liu6": Table(
        "CIFAR-100 apples and fish (Liu et al., Table 6)",
        {
            **{f"{n}:400": _apples(n) for n in (4, 8, 40)},
            **{f"{n}:400, 16 pixels": _small_apples(n) for n in (4, 8, 40)},
        },
        IMAGE_METHODS,
        _TUNED_ROWS,
        _SMALL,
    ),
    "imdb": Table("IMDB reviews (Qi et al., Table 5)", _reviews(), IMDB_METHODS, note=_REVIEWS),
    "qi1": Table("Long-tailed CIFAR-10 (Qi et al., Table 1)", _long_tail(), QI_METHODS, note=_QI),
    "qi2": Table("Long-tailed CIFAR-10 (Qi et al., Table 2)", _long_tail(), QI2_METHODS, note=_QI_2),
    "trials": Table(
        "Trials: settings of the weightings",
        _trials(),
        tuple(name for name in TRIAL_METHODS if name not in ("Ren et al.", "Hu et al., floor 0")),
        note=_TRIALS,
    ),
    "restart": Table(
        "A new optimiser for stage 2, or that of stage 1",
        _restarts(),
        (*TRIAL_METHODS, "nearest class mean on X", "balanced logistic regression on X"),
        note=_RESTART,
    ),
    "validation": Table(
        "How many validation rows: SST-2, 20 : 1000",
        _validation_sizes(),
        (
            "plain",
            "two-phase",
            "Ren et al.",
            "Hu et al.",
            "Hu et al., floor 0",
            "ours",
            "plain + validation rows",
        ),
        _TUNED_ROWS,
        _SIZES,
    ),
    "benchmark": Table(
        "imbalanced-learn's benchmark, five folds",
        {
            name: (partial(protocols.benchmark_fold, name=name), _same(recipes.tabular))
            for name in BENCHMARK_SETS
        },
        BENCHMARK_METHODS,
        note=_FOLDS,
    ),
}

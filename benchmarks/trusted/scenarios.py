"""The commands: which draws, which methods, which figures count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.trusted import draws
from benchmarks.trusted.draws import Draw

SETS = (
    "satimage", "abalone", "sick_euthyroid", "us_crime", "wine_quality", "letter_img", "mammography", draws.TEXT,
)  # fmt: skip
CONTROLS = (
    "none",
    "proportion",
    "pruned, none",
    "pruned, proportion",
    "boosted trees",
    "ensemble",
    "two-phase",
)
LEARNED = ("ren", "hu", "ours", "meta-weight-net")


@dataclass(frozen=True)
class Scenario:
    """``draw`` takes (set, condition, validation rows a class, seed, data_home); ``file`` holds the runs."""

    title: str
    draw: Callable[[str, str, int, int, str | None], Draw]
    conditions: tuple[str, ...]
    figures: dict[str, str]
    note: str
    file: str


_RANKING = {
    "average_precision": "average precision",
    "tuned_balanced_accuracy": "balanced accuracy, threshold tuned",
}
_TRAINED_ON = (
    'Boosted trees, the ensemble and "+ v" train on the validation rows as well, so that a threshold tuned on these is '
    "not theirs to be judged by: look at the ranking, or their own decision."
)
_OWN = {"balanced_accuracy": "balanced accuracy, own decision"}
_NOISE = (
    "clean",
    *(f"{kind} {share} %" for kind in ("missed", "false") for share in (10, 30, 50)),
    "symmetric 10 %",
    "symmetric 30 %",
)

SCENARIOS = {
    "noise": Scenario(
        "Label noise in training, clean validation rows",
        draws.noise,
        _NOISE,
        {**_RANKING, **_OWN},
        'Validation and test rows have true labels. "missed": so many of the rare training rows are labelled common; '
        '"false": so many common rows, counted in rare ones, are labelled rare; "symmetric": every label is wrong with '
        f"that probability. {_TRAINED_ON}",
        "noise",
    ),
    "shift": Scenario(
        "Validation rows from a shifted distribution",
        draws.shift,
        ("strength 0", "strength 1", "strength 2"),
        {**_RANKING, **_OWN},
        "None of the sets at hand says when or where a row was taken, so the shift is made: training rows are drawn "
        "along the first principal component, validation and test rows are the others. Strength 0 is no shift. "
        f"{_TRAINED_ON}",
        "shift",
    ),
    "groups": Scenario(
        "The worst of four groups, validation rows balanced by group",
        draws.groups,
        ("aligned 50 %", "aligned 80 %", "aligned 95 %"),
        {
            "tuned_worst_group": "accuracy of the worst group, threshold tuned",
            "worst_group": "accuracy of the worst group, own decision",
            "average_precision": "average precision",
        },
        "Groups are class and the side of the first principal component's median. So many of the training rows of "
        f"each class are on the class's side; test rows are as they come. {_TRAINED_ON}",
        "groups",
    ),
    "mislabelled": Scenario(
        "Mislabelled rows, ranked",
        draws.noise,
        _NOISE[1:],
        {
            "found_missed": "rare rows labelled common, found",
            "found_false": "common rows labelled rare, found",
        },
        "Average precision with which the wrong labels come first, among the training rows of one given label. Learned "
        'weights: the lowest first. "pruned" rows: cross-validated self-confidence of plain networks; "ensemble": '
        "self-confidence of its out-of-fold probabilities. The runs are those of `noise`.",
        "noise",
    ),
}

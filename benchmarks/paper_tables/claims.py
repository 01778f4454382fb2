"""What the papers claim beside what was found, from the CSV files of docs/results; nothing is run.

``python -m benchmarks.paper_tables.claims docs/results`` writes ``claims.md`` there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.paper_tables.ablations import AFTER, ARMS, BEFORE, RATES
from benchmarks.paper_tables.paired import SECTIONS, on_reviews
from benchmarks.paper_tables.published import PUBLISHED

TITLE = "# What the papers claim and what we found"


@dataclass(frozen=True)
class Claim:
    """A published difference between two rows of a table, and where ours is.

    Attributes
    ----------
    words : the claim
    file, task : CSV file of the results and its column; its summary figures
    table : whose published figures, and `column` of those
    first, second : the two rows that are compared
    why : one line
    """

    words: str
    file: str
    task: str
    table: str
    column: str
    first: str
    second: str
    why: str


CLAIMS = (
    *(
        Claim(
            f'"ours" beats {second} on SST-2 at {ratio}',
            "sst2.csv",
            ratio,
            "liu5",
            ratio,
            "ours",
            second,
            why,
        )
        for ratio, second, why in (
            ("10:1000", "two-phase", "most batches hold no rare row (a guess)"),
            ("20:1000", "two-phase", "Hu's floor of 1e-5 removed, any learned weights reach this"),
            ("20:1000", "Hu et al.", "the floor: without it Hu is level with \"ours\""),
            ("20:1000", "Hu et al. + R", "the same floor"),
            ("100:1000", "Hu et al. + R", "with a hundred rare rows all that use validation rows are level"),
        )
    ),
    Claim(
        '"ours" beats two-phase on SST-2 at 20:1000 with the paper\'s network', "sst2_text_network.csv",
        "20:1000, TextFCN", "liu5", "20:1000, TextFCN", "ours", "two-phase",
        "stage 2 is too short for weights alone; constraint steps move the network",
    ),
    Claim(
        '"ours" beats proportion on SST-5', "sst5.csv", "50:500", "liu4", "50:500", "ours", "proportion",
        "features not trained for the task; five classes",
    ),
    Claim(
        '"ours" beats Hu + R on APS', "aps.csv", "class-mean imputation, min-max", "liu9",
        "class-mean imputation, min-max", "ours", "Hu et al. + R", "all lie within the spread of draws",
    ),
    Claim(
        '"ours" beats two-phase on APS', "aps.csv", "class-mean imputation, min-max", "liu9",
        "class-mean imputation, min-max", "ours", "two-phase", "five validation rows beside ten rare ones weigh much",
    ),
    Claim(
        "two-phase beats the plain network on APS, which learns nothing", "aps.csv",
        "class-mean imputation, min-max", "liu9",
        "class-mean imputation, min-max", "two-phase", "plain", "ours keeps its best step by the validation rows",
    ),
    *(
        Claim(
            f'"ours" beats {second} on apples and fish at {n}:400', "cifar_apples.csv", f"{n}:400, 16 pixels", "liu6",
            f"{n}:400, 16 pixels", "ours", second, "a stand-in: images of 16 pixels, a small network",
        )
        for n in (4, 40) for second in ("two-phase", "plain")
    ),
)  # fmt: skip


def main(arguments: Sequence[str]) -> Path:
    """Write the page; return its path."""
    folder = Path(arguments[0])
    path = folder / "claims.md"
    path.write_text(page(folder), encoding="utf-8")
    return path


def page(folder: Path) -> str:
    """Return the page's text."""
    rows = [_row(claim, pd.read_csv(folder / claim.file)) for claim in CLAIMS]
    head = "| claim | theirs | ours | how sure | why, as far as we know |\n| --- | --- | --- | --- | --- |\n"
    parts = [
        TITLE,
        "`python -m benchmarks.paper_tables.claims docs/results` writes this page from the CSV files beside it.",
        "Theirs and ours: the difference in test accuracy between the two rows, in per cent points. Ours is of "
        "settings chosen on validation rows in the quick grid; theirs of settings chosen on test. ± is the standard "
        "error of that difference, as of independent means (draws are paired, so that ours is too wide). "
        '"Held" and "opposite": by more than two standard errors of ours; "open": less. Our features, files '
        "and networks differ from theirs: [how](paper_tables.md).",
        "## Liu, Cao, Fan 2022\n\n" + head + "\n".join(rows),
        *(f"### {title}\n\n{words}\n\n{make(folder)}" for title, (words, make) in SECTIONS.items()),
        "## Qi et al.\n\n" + _ablations(folder),
        on_reviews(folder),
        "## What cannot be had here\n\n| claim | why not |\n| --- | --- |\n"
        + "\n".join(f"| {claim} | {why} |" for claim, why in CANNOT.items()),
    ]
    return "\n\n".join(parts) + "\n"


CANNOT = {
    "CIFAR-100 apples and fish at its full size (Liu et al., Table 6)": "350 epochs of stage 1 for each draw want a "
    "GPU; a [stand-in of 16 pixels](cifar_apples.md) was run",
    "long-tailed CIFAR-10 and -100, step imbalance (Qi et al., Tables 1 and 2)": "200 epochs of ResNet-32 for each row "
    "want a GPU; a test runs the code on 54 images",
    "CIFAR-10 (Liu et al., Table 4)": "likewise; no stand-in was run",
    "IMDB with a bidirectional LSTM (Qi et al., Table 5)": "half of the reviews are at hand, and were run "
    "[as embeddings](imdb.md); the network's code is tested on reviews made up, and was not run on these",
    "ImageNet-LT, Places-LT, iNaturalist, COVID-LT (Qi et al.)": "neither the images nor the machines",
}


def _row(claim: Claim, figures: pd.DataFrame) -> str:
    wanted = (
        (figures["task"] == claim.task)
        & (figures["chosen_on"] == "validation")
        & (figures["metric"] == "accuracy")
    )
    block = figures[wanted].set_index("method").loc[[claim.first, claim.second]]
    difference = block["mean"].iloc[0] - block["mean"].iloc[1]
    error = float(np.sqrt((block["std"] ** 2 / block["n"]).sum()))
    published = PUBLISHED[claim.table][claim.column]
    theirs = published[claim.first][0] - published[claim.second][0]
    ours = f"{difference:+.1f} ± {error:.1f} ({block['mean'].iloc[0]:.1f}, {block['mean'].iloc[1]:.1f})"
    sure = f"{verdict(theirs, difference, error)}, {int(block['n'].min())} draws"
    printed = f"{theirs:+.1f} ({published[claim.first][0]:.1f}, {published[claim.second][0]:.1f})"
    return f"| {claim.words} | {printed} | {ours} | {sure} | {claim.why} |"


def verdict(theirs: float, ours: float, error: float) -> str:
    """Return whether a claim held, by more than two standard errors."""
    if abs(ours) <= 2 * error:
        return "open"
    return "held" if np.sign(theirs) == np.sign(ours) else "opposite"


def _ablations(folder: Path) -> str:
    path = folder / "ablations.csv"
    if not path.exists():
        return "The ablations were not run."
    rows = pd.read_csv(path)
    last = rows[rows["epoch"] == BEFORE + AFTER]
    damped, without, fixed, plain = ARMS
    lines = []
    for words, first, second in (
        ("momentum helps", damped, without),
        ("λ is better damped from ∞ to 1 than fixed at 1", damped, fixed),
        ("ABSGD beats SGD", damped, plain),
    ):
        for rate in RATES:
            wide = last[last["rate"] == rate].pivot(index="draw", columns="arm", values="accuracy")
            difference = 100 * (wide[first] - wide[second])
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            sure = verdict(1, difference.mean(), error)
            lines.append(
                f"| {words}, learning rate {rate} | higher | {difference.mean():+.1f} ± {error:.1f} | {sure}, "
                f"{len(difference)} draws, a stand-in | [digits](ablations.md), not CIFAR |"
            )
    head = "| claim | theirs | ours, paired | how sure | on what |\n| --- | --- | --- | --- | --- |\n"
    return head + "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])

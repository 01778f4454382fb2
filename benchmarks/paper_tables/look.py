"""How figures of results look: names as users type them, one hue for each kind of row, one mark for each reference."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from skreweight.weighting import WEIGHTINGS

#: Inches; pages show figures 650 pixels wide, so that a point is 650 / (72 * 6.5) = 1.4 pixels.
WIDTH = 6.5
DPI = 200
FONT = {"font.size": 8.5, "axes.titlesize": 8.5, "axes.linewidth": 0.6}

HUES = {"methods": "#0072B2", "controls": "#8A5A00", "peers": "#B0307A"}
MARKERS = {"methods": "o", "controls": "s", "peers": "^"}
CHANCE = {"color": "0.35", "linestyle": (0, (4, 3)), "linewidth": 1.0}
PUBLISHED = {"color": "black", "marker": "x", "linestyle": "none", "markersize": 4.5, "markeredgewidth": 1.0}

_ALL_ROWS = " + validation rows"
_METHODS = {
    "Ren et al.": "ren",
    "Hu et al.": "hu",
    "Hu et al., floor 0": "hu, floor=0",
    "Hu et al. + R": "hu, lp_coef>0",
    "ABSGD": "absgd",
}
_CONTROLS = {
    "plain": "none",
    "plain, tuned threshold": "none, tuned threshold",
    "plain + validation rows": "none + v",
    "proportion + validation rows": "proportion + v",
    "logit adjustment + validation rows": "LogitAdjustedLoss + v",
}
_PEERS = {
    "boosted trees": "HistGradientBoosting",
    "random oversampling": "RandomOverSampler",
}


class Drawn(NamedTuple):
    """What stands beside a picture in a page."""

    alt: str
    caption: str

    def markdown(self, picture: str) -> str:
        """Return the picture with its caption below."""
        return f"![{self.alt}]({picture})\n\n*{self.caption}*"


def stamp(picture: Path, figures: Path) -> None:
    """Note in a picture which figures it shows: a test finds the one that was not drawn anew."""
    info = PngInfo()
    info.add_text("figures", digest(figures))
    with Image.open(picture) as image:
        image.save(picture, dpi=image.info["dpi"], pnginfo=info)


def stamped(picture: Path) -> str | None:
    """Return what `stamp` noted in a picture."""
    with Image.open(picture) as image:
        return image.info.get("figures")


def digest(figures: Path) -> str:
    """Return what tells one file of figures from others."""
    return sha256(figures.read_bytes()).hexdigest()


def name_of(method: str) -> str:
    """Return what a user types for a row of the tables; "+ v": its validation rows train as well."""
    known = {**_METHODS, **_CONTROLS}.get(method)
    if known is not None:
        return known
    rest = method.removesuffix(_ALL_ROWS)
    return _PEERS.get(rest, rest) + (" + v" if rest != method else "")


def kind_of(method: str) -> str:
    """Return "methods", "controls" or "peers"."""
    if method in _CONTROLS:
        return "controls"
    first = method.split(",")[0]
    ours = method in _METHODS or first in WEIGHTINGS or first == "ReweightedEnsemble"
    return "methods" if ours else "peers"


def by_kind(methods: list[str]) -> list[str]:
    """Return the methods in their order, kind after kind."""
    return [method for kind in HUES for method in methods if kind_of(method) == kind]


def bare(axis: Axes) -> None:
    """Leave out the frame but for the two sides that carry numbers."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(length=2.5, width=0.6)


def key(kinds: list[str], *, chance: bool, published: bool) -> list[Line2D]:
    """Return the handles of a legend."""
    handles = [
        Line2D([], [], color=HUES[k], marker=MARKERS[k], markersize=4, linewidth=1.2, label=k)
        for k in HUES
        if k in kinds
    ]
    if published:
        handles.append(Line2D([], [], label="published", **PUBLISHED))
    if chance:
        handles.append(Line2D([], [], label="chance", **CHANCE))
    return handles

"""Published accuracies in per cent, (mean, standard deviation) or a mean alone, by table, task and method."""

from __future__ import annotations

Figure = tuple[float, float] | tuple[float]


def _by_task(tasks: tuple[str, ...], **rows: str) -> dict[str, dict[str, Figure]]:
    """Rows are written as the papers print them: one "mean ± std" for each task, separated by "/"."""
    names = {
        "baseline": "plain",
        "proportion": "proportion",
        "two_phase": "two-phase",
        "hu": "Hu et al.",
        "hu_r": "Hu et al. + R",
        "ours": "ours",
    }
    figures: dict[str, dict[str, Figure]] = {task: {} for task in tasks}
    for key, row in rows.items():
        for task, cell in zip(tasks, row.split("/"), strict=True):
            mean, std = cell.split("±")
            figures[task][names[key]] = (float(mean), float(std))
    return figures


_SST2 = _by_task(
    ("10:1000", "20:1000", "100:1000"),
    baseline="49.92 ± 0.00 / 49.92 ± 0.00 / 75.52 ± 2.99",
    proportion="60.63 ± 13.13 / 78.76 ± 2.40 / 79.59 ± 3.35",
    two_phase="75.35 ± 8.90 / 80.52 ± 1.96 / 81.99 ± 0.80",
    hu="55.84 ± 11.84 / 73.61 ± 11.86 / 81.57 ± 0.74",
    hu_r="66.68 ± 13.99 / 79.53 ± 1.64 / 82.25 ± 1.16",
    ours="80.62 ± 0.93 / 81.14 ± 1.25 / 82.58 ± 0.98",
)
_SST5 = _by_task(
    ("50:500",),
    baseline="40.24 ± 0.99",
    proportion="42.59 ± 1.12",
    two_phase="42.60 ± 1.44",
    hu="39.82 ± 1.07",
    hu_r="40.14 ± 0.39",
    ours="44.62 ± 1.08",
)
_APS = _by_task(
    ("class-mean imputation, min-max",),
    baseline="50.00 ± 0.00",
    proportion="93.29 ± 2.59",
    two_phase="93.19 ± 0.87",
    hu="94.09 ± 0.94",
    hu_r="93.98 ± 1.78",
    ours="94.49 ± 0.70",
)
_CIFAR100 = _by_task(
    ("4:400", "8:400", "40:400"),
    baseline="64.40 ± 11.98 / 77.40 ± 12.23 / 85.00 ± 1.10",
    proportion="60.50 ± 8.40 / 69.60 ± 8.56 / 85.20 ± 1.21",
    two_phase="66.00 ± 13.95 / 79.50 ± 3.75 / 86.00 ± 1.61",
    hu="60.20 ± 8.19 / 69.10 ± 8.08 / 85.40 ± 1.07",
    hu_r="71.80 ± 11.73 / 82.50 ± 4.27 / 86.50 ± 2.41",
    ours="77.20 ± 3.75 / 82.60 ± 3.87 / 87.40 ± 1.66",
)
_LONG_TAIL = "long-tailed, ratio 100"
#: What runs in its place without a GPU; its note says that the published figures are of the whole.
_STAND_IN = "stand-in (no GPU)"
_QI_1: dict[str, dict[str, Figure]] = {
    _LONG_TAIL: {
        "SGD (CE)": (70.46, 0.21),
        "ABSGD (CE)": (73.10, 0.08),
        "SGD (Focal)": (70.35, 0.21),
        "ABSGD (Focal)": (72.39, 0.12),
    }
}
_QI_2: dict[str, dict[str, Figure]] = {
    _LONG_TAIL: {
        "resampling (CE)": (71.78,),
        "SGD (CB-CE)": (72.37,),
        "META (CB-CE)": (76.41,),
        "ABSGD (CB-CE)": (79.48,),
        "SGD (CB-Focal)": (74.57,),
        "META (CB-Focal)": (78.90,),
        "ABSGD (CB-Focal)": (79.14,),
        "SGD (LDAM)": (73.35,),
        "SGD (CB-LDAM)": (77.03,),
        "META (CB-LDAM)": (80.00,),
        "ABSGD (CB-LDAM)": (80.52,),
    }
}
#: On the whole of IMDB, with a network of sizes that are not printed.
_IMDB: dict[str, Figure] = {
    "SGD (CE)": (65.97, 1.12),
    "ABSGD (CE)": (67.13, 1.31),
    "SGD (Focal)": (61.40, 0.58),
    "ABSGD (Focal)": (63.80, 0.22),
    "SGD (CB-CE)": (70.41, 0.50),
    "ABSGD (CB-CE)": (74.90, 0.56),
    "SGD (CB-Focal)": (71.92, 0.38),
    "ABSGD (CB-Focal)": (74.08, 0.76),
}

PUBLISHED: dict[str, dict[str, dict[str, Figure]]] = {
    "liu9": _APS,
    "liu5": {**_SST2, **{f"{task}, TextFCN": row for task, row in _SST2.items()}},
    "liu4": {**_SST5, **{f"{task}, TextFCN": row for task, row in _SST5.items()}},
    "liu6": {**_CIFAR100, **{f"{task}, 16 pixels": row for task, row in _CIFAR100.items()}},
    "imdb": {f"{n}, bidirectional LSTM": _IMDB for n in ("625:6250", "200:2000")},
    "qi1": {**_QI_1, _STAND_IN: _QI_1[_LONG_TAIL]},
    "qi2": {**_QI_2, _STAND_IN: _QI_2[_LONG_TAIL]},
}

"""The results file: one row for each set, method and fold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.results_file import whole_rows
from benchmarks.tables.evaluation import FIGURES

KEY = ["set", "method", "seed"]
COLUMNS = [*KEY, *(prefix + name for prefix in ("", "fair_") for name in (*FIGURES, "seconds")), "error"]


def finished(path: Path) -> pd.DataFrame:
    """Return the rows of a results file; a last line that was cut off is left out."""
    rows = whole_rows(path, COLUMNS)
    figures = COLUMNS[len(KEY) : -1]
    rows[figures] = rows[figures].apply(pd.to_numeric)
    return rows.astype({"seed": int}).drop_duplicates(KEY, keep="last")

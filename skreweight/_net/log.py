"""The table that ``verbose=1`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skorch.callbacks import PrintLog


class TrainingLog(PrintLog):
    """One table for both stages: its columns are those of the first epoch it prints.

    What only stage 2 records (``diagnostics=True``) stands in ``history_frame()``.
    """

    def initialize(self) -> TrainingLog:
        """Begin a new table; return self."""
        super().initialize()
        self.columns_: list[str] | None = None
        return self

    def table(self, row: Mapping[str, Any]) -> str:
        """Return the table of one epoch, its header included."""
        if self.columns_ is None:
            self.columns_ = list(row)
        return super().table({name: row.get(name) for name in self.columns_})

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the epoch's row, if anybody reads it."""
        if net.verbose or self.sink is not print:
            super().on_epoch_end(net, **kwargs)

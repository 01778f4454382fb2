"""The order of the gallery: from the first question to the special case; what is not named comes last."""

from pathlib import Path

ORDER = (
    "table_in_one_line",
    "at_a_glance",
    "decision_boundaries",
    "weights_over_training",
    "constraint_step",
    "two_stages",
    "thresholds_and_costs",
    "calibration",
    "packed_search",
    "clean_rows",
    "mislabelled_rows",
    "images_with_dataset",
    "text_embeddings",
    "aps_end_to_end",
)


class GalleryOrder:
    """Sort key of sphinx-gallery, by file name."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __repr__(self) -> str:
        """Return the same each time, or every build makes everything anew."""
        return "<GalleryOrder>"

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return the place of a script."""
        name = Path(filename).stem.removeprefix("plot_")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)

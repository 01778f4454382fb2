"""Displays of what a fit learned, and the rows that look mislabelled.

The displays follow scikit-learn's convention: made by ``from_estimator`` or from the numbers themselves, drawn by
``plot(ax=...)``, with the attributes ``figure_`` and ``ax_``. They need matplotlib, the extra ``plot``; only public
attributes of a fitted estimator are read.
"""

from skreweight.inspection._decision import DecisionDisplay
from skreweight.inspection._example_weights import ExampleWeightsDisplay
from skreweight.inspection._history import HistoryDisplay
from skreweight.inspection._label_quality import label_quality
from skreweight.inspection._search import SearchDisplay

__all__ = ["DecisionDisplay", "ExampleWeightsDisplay", "HistoryDisplay", "SearchDisplay", "label_quality"]

"""Searches over parameters that train their candidates together."""

from skreweight.model_selection._search import PackedGridSearchCV, PackedRandomizedSearchCV

__all__ = ["PackedGridSearchCV", "PackedRandomizedSearchCV"]

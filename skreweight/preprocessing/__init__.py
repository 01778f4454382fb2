"""Tables as they come made numbers."""

from skreweight.preprocessing._table_encoder import TableEncoder

__all__ = ["TableEncoder"]

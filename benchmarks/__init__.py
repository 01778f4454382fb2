"""Measurements: speed beside other packages, and the papers' tables."""

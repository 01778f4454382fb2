"""The papers' own grids, their settings trained as packs: `python -m benchmarks.paper_tables grids`."""

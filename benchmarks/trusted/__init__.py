"""Where learned weights should win: clean validation rows beside training rows that are unlike them.

`python -m benchmarks.paper_tables noise|shift|groups|mislabelled`.
"""

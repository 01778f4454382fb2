"""The ensemble beside trees, networks and resampling on whole tables: `python -m benchmarks.paper_tables tables`.

Every method is shown twice: as it decides by itself, and with its probabilities calibrated and its decision chosen on
out-of-fold predictions of the training rows, by the rules of the ensemble.
"""

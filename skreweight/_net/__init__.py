"""The estimator in layers: each module adds one concern to the class of the one before."""

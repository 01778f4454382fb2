"""A skorch classifier as scikit-learn wants it; knows no weighting."""

"""One run of stages; knows no estimator and no skorch."""

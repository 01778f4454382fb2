"""skorch's own test suite, with `ReweightedClassifier` in the place of ``NeuralNetClassifier``."""

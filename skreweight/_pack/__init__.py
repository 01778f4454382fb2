"""Many estimators trained as one: members of a model, each with rows, a seed and numbers of its own."""

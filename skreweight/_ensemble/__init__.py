"""Many networks that each hold out other rows: their probabilities, and the decision chosen out of fold."""

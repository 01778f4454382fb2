"""From what a user passes to batches on the device."""

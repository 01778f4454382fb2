"""Time and memory of skreweight beside a hand-written loop, stock skorch and other packages."""

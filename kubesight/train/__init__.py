"""One training engine; tasks plug in."""

"""A sweep."""

"""Katib's objects and rules: Experiments written and read, metric lines, settings."""

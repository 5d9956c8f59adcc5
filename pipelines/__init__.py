"""Pipelines: wiring of the components."""

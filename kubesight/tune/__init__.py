"""Sweeps: rendered for Katib, run on this machine, followed on a cluster."""

"""Katib's early stopping service, with the policies of `kubesight.sweep`."""

"""A sweep on a cluster: its Experiment made, followed, read and deleted."""

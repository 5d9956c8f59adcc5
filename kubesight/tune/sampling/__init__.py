"""How the values of a trial are drawn: Katib's algorithms, on this machine."""

"""One trial of a sweep on this machine: its process, its metric lines, its end."""

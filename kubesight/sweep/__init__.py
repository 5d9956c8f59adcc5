"""What a sweep is, wherever it runs: its space, how trials are drawn, when they are ended, how many there are."""

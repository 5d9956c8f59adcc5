"""A model, or somebody's predictions, judged on a data set."""

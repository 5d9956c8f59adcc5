"""A data set into training, validation and test parts."""

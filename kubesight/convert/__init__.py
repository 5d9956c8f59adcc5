"""Any annotation format to the data set."""

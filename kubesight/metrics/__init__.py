"""The numbers that models are judged by."""

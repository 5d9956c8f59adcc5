"""Every hyperparameter, declared once."""

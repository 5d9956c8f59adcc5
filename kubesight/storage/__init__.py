"""Reading and writing files so that nothing half-written ever carries a final name."""

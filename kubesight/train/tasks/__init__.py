"""What each task brings to the engine: data, loss, metrics."""

"""A trained model as ONNX, checked against the original."""

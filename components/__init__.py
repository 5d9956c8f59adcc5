"""KFP faces of the library, one folder a step."""

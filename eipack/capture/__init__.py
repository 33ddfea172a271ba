"""From a model to programs: example inputs, dynamic dimensions and the capture methods."""

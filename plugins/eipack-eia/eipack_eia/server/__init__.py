"""The side that serves: one accelerator, which lends one slice of a device."""

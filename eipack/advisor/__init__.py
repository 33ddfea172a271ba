"""Which hardware meets the latency limits at the lowest cost, from what was measured on it."""

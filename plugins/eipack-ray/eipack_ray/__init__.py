"""Pools of accelerators that a Ray cluster places, restarts and accounts for."""

"""Proof that a program gives the model's answers, before a package may be saved."""

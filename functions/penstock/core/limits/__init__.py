"""Limits and budgets: what a request needs, which meters it touches, and how it reserves and settles on them."""

"""Caches: what was computed once, kept for a while."""

"""Conversations that are too long for their model: what was said long ago becomes a summary."""

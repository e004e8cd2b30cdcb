"""Chooses a model for a prompt where its caller named an alias; what is sensitive stays local."""

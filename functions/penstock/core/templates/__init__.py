"""Prompts that the operator keeps as files, filled with what a request says."""

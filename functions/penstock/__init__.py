"""Penstock, a serverless inference gateway: one OpenAI-compatible door to GPU workers and remote providers."""

__version__ = "0.1.0"

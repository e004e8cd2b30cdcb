"""Queues that tell runners which job to run next, a plug each, exporting ``connect(url, client)``."""

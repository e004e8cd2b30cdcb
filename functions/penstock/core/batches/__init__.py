"""Many requests in one file: accepted as one batch, run as ordinary jobs, answered in another file."""

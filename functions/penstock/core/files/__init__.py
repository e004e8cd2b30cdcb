"""Documents that callers keep, of any size: written in pieces, private to their key, forgotten in time."""

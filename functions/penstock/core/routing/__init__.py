"""Which deployment is tried first, which next, and which not now."""

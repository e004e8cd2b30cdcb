"""Benchmarks: the gateway against its upstream called directly and against bare references, in turns, as ratios."""

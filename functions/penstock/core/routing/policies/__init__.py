"""Policies: in which order the places of one priority are tried. One a file, each with ``order(places, request)``."""

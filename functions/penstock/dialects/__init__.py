"""Inbound wires: one file each, exporting `router`."""

"""Outbound wires: one file each, exporting `connect(deployment, client)`."""

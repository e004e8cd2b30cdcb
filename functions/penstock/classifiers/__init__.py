"""Who tells to which tier a prompt belongs, a file each, exporting ``connect(alias)``."""

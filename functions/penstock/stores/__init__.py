"""State backends: one folder each, exporting `connect(url, client)`."""

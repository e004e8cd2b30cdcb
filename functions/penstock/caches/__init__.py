"""Where caches keep what several processes share, a file each, exporting ``connect(url)``."""

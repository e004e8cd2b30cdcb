"""Where large documents are kept: files, and bodies and answers of jobs that no record should hold."""

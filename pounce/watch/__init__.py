"""Files: which of them count, and when they change."""

"""The application: found, imported, and copied where worker threads cannot share it."""

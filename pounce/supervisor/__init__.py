"""The supervisor: starts the workers, watches them, replaces them, and ends the server."""

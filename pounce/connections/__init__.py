"""Connections: streams of bytes that carry the messages of one protocol."""

"""Protocols without I/O: bytes in, events out; responses in, bytes out.

Every protocol has the vocabulary of `events`, so that no room above knows which one a request came by. Must never use a
socket, a loop or an application.
"""

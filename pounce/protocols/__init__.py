"""Floor 3: protocols without I/O. Bytes in, events out; events in, bytes out.

Every protocol speaks the vocabulary of `events`, so that nothing above knows which one served a request.
Must never touch a socket, a loop or an application.
"""

"""Floor 2: sockets. Listeners that accept, streams that read and write within bounds.

Knows the kernel's loop. Must never hear of HTTP or of an application.
"""

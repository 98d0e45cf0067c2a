"""Floor 1: the loop, its timers and the tasks it drives.

Knows file descriptors, time and coroutines. Must never hear of a socket protocol, of HTTP or of asyncio.
"""

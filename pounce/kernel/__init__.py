"""The event loop, its timers and deadlines, and the coroutines it drives.

Knows file descriptors, time and coroutines. Must never know a socket protocol, HTTP or asyncio.
"""

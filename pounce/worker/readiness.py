"""Should a load balancer send new clients to this server? What the supervisor decides, and all workers know at once.

A worker process was forked long before, and may be busy when the end begins. So it is not told but looks: at a byte of
shared memory. While workers are replaced, by SIGHUP or by a new server process that has taken over the sockets, new
clients are welcome all the time; so a worker that drains is no sign.

Owner: the supervisor's thread. A worker that learns of the server's end from the supervisor's death clears it, too.
"""

import mmap


class Readiness:
    """To be made before the first worker is forked."""

    __slots__ = ("_byte",)

    def __init__(self, *, ready: bool = False) -> None:
        self._byte = mmap.mmap(-1, 1)
        if ready:
            self.set()

    def __bool__(self) -> bool:
        return self._byte[0] != 0

    def set(self) -> None:
        """Clients are let in."""
        self._byte[0] = 1

    def clear(self) -> None:
        """The server leaves."""
        self._byte[0] = 0

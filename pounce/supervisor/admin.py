"""The admin listener of a server (`--admin`), where there is one: at an address that only this machine can reach.

It has the supervisor's loop with the supervisor. A defect that one of its clients finds must cost nobody else anything:
no worker's connections are on that loop, so an exception that has passed such code is the listener's.

Owner: the supervisor's thread.
"""

import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pounce.config.config import Config
from pounce.errors import ConfigError
from pounce.kernel.loop import Loop
from pounce.net.address import Address
from pounce.net.listeners import Listener
from pounce.supervisor.health import Health

if TYPE_CHECKING:
    from pounce.admin.listener import AdminListener


_MODULES = ("pounce.admin.", "pounce.connections.", "pounce.net.acceptor", "pounce.net.stream", "pounce.net.progress")
"""On the supervisor's loop, what these do is done for the admin listener."""


class Admin:
    """Does nothing where there is no admin listener."""

    def __init__(self, loop: Loop, health: Health) -> None:
        self._loop = loop
        self._health = health
        self._listener: AdminListener | None = None

    def open(self, config: Config, listeners: Sequence[Listener]) -> None:
        """`listeners` are all that are bound. Lets no client in yet. Raises ConfigError for an address that other
        machines can reach."""
        own = [listener for listener in listeners if listener.private]
        if not own:
            return
        taken = {each.address[1] for each in own} & {each.address[1] for each in listeners if not each.private}
        if taken - {None}:  # the kernel lets both be bound, and one of them not listen
            raise ConfigError(f"--admin {config.admin}: the application is served at this port; choose another port")
        public = [listener.address[0] for listener in own if not _is_local(listener.address)]
        if public and not config.admin_public:
            raise ConfigError(
                f"--admin {config.admin}: {public[0]} can be reached by other machines, and the admin listener "
                "does not authenticate its clients; use 127.0.0.1 or unix:PATH, or allow it with --admin-public"
            )
        from pounce.admin.listener import AdminListener  # most servers have none
        from pounce.admin.probes import routes

        self._listener = AdminListener(self._loop, own, config, routes(self._health))

    def start(self) -> None:
        """Lets clients in, unless another server process does that at these sockets. May be called again. Raises
        StartupError."""
        if self._listener is not None:
            self._listener.start()

    def turn(self) -> None:
        """Turns the supervisor's loop. What the admin listener raises ends its connections, and nothing else."""
        try:
            self._loop.turn()
        except Exception as error:
            if self._listener is None or not _is_of_connections(error):
                raise
            self._listener.failed()

    def stop(self) -> None:
        """The server stops. Its clients are served until `close`, or by another server process."""
        if self._listener is not None:
            self._listener.stop()

    def close(self) -> None:
        """Ends its connections. The listening sockets stay."""
        if self._listener is not None:
            self._listener.close()

    def sockets(self) -> Iterable[socket.socket]:
        """All that are open: a worker process must not hold them."""
        return self._listener.sockets() if self._listener is not None else ()


def _is_of_connections(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).startswith(_MODULES):
            return True
        trace = trace.tb_next
    return False


def _is_local(address: Address) -> bool:
    """Is it a loopback address, or a Unix socket? The address of a bound socket is a number."""
    host, port = address
    if port is None:
        return True
    if ":" not in host:
        return host.startswith("127.")
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0]) == b"\0" * 15 + b"\1"

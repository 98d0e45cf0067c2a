"""What the server tells the service manager over NOTIFY_SOCKET (sd_notify(3)), where that is set.

With `Type=notify` the service has started when clients are let in, and a new server process becomes the service's main
one. Nothing depends on whether a message arrives, so errors are ignored. The variable stays for the application, which
may tell the manager more. `service_reports` has what is told all the while.

Owner: the supervisor's thread.
"""

import contextlib
import os
import socket
import time

SEND_TIMEOUT = 1.0
"""Seconds for which a manager that does not read may hold the server up."""


def listens() -> bool:
    """Is there a manager who wants to be told?"""
    return os.environ.get("NOTIFY_SOCKET", "").startswith(("/", "@"))


def ready(main_pid: int | None = None) -> None:
    """Clients are let in, or a reload is over, whether it worked or not. `main_pid`: another process is the service's
    main one from now on."""
    notify(*([] if main_pid is None else [f"MAINPID={main_pid}"]), "READY=1")


def reloading() -> None:
    """A reload begins: SIGHUP or SIGUSR2. `ready` has to follow."""
    # With `Type=notify-reload` systemd uses the time to tell this message from that of an earlier reload.
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def notify(*lines: str, timeout: float = SEND_TIMEOUT) -> bool:
    """Sends a message; has that worked? `timeout`: seconds for which a manager that has not read those before may hold
    the server up."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        # A leading `@` stands for the NUL of an abstract address.
        sock.sendto("\n".join(lines).encode(), "\0" + address[1:] if address[0] == "@" else address)
        return True
    return False

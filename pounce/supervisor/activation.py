"""Sockets that the service manager has opened for this process: socket activation, as of sd_listen_fds(3).

    LISTEN_FDS       how many there are; they are descriptor 3 and those that follow
    LISTEN_PID       the process that they are for
    LISTEN_FDNAMES   a name for each, with colons between them: FileDescriptorName= of the socket unit, or its own

Where there are any, the server listens at all of them. A socket that nobody accepts from would keep its clients waiting
for ever, so an address that an option names does not replace them; but `--fd N`, `fd://N` and `fd://NAME` choose among
them. The manager goes on listening when the server ends, so they are never closed to clients here.

The next process of the server has the sockets from its predecessor, each under the number that it had at first, and
reads the same variables; only LISTEN_PID does not name it.

Must never be used by a server that shares its process with another program, whose sockets they may be. Owner: the
supervisor's thread.
"""

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

from pounce.config.bind import Bind
from pounce.config.config import Config
from pounce.errors import StartupError
from pounce.net.inherited import InheritedSockets

FIRST = 3
"""The number of the first descriptor (SD_LISTEN_FDS_START)."""
COUNT, PID, NAMES = VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")

logger = logging.getLogger("pounce.error")


class GivenSocket(NamedTuple):
    fd: int
    """The number that the service manager has given it."""
    name: str

    def __str__(self) -> str:
        return f"descriptor {self.fd}" + (f", {self.name}" if self.name else "")


def take(sockets: InheritedSockets, *, from_predecessor: bool) -> list[GivenSocket]:
    """What the service manager has given; `sockets` has them then. The variables are removed, because they are not the
    application's. `from_predecessor`: `sockets` come from the server process before this one. Raises StartupError."""
    count, pid, names = (os.environ.pop(name, "") for name in VARIABLES)
    if not count:
        return []
    if not count.isdecimal():
        raise StartupError(f"{COUNT}={count} is not a number; it is for the service manager to set")
    numbers = range(FIRST, FIRST + int(count))
    if from_predecessor:
        numbers_given = [fd for fd in numbers if fd in sockets.fds]
    elif pid == str(os.getpid()):
        sockets.add(" ".join(f"fd{fd}={fd}" for fd in numbers))
        numbers_given = list(numbers)
    else:
        if int(count):
            logger.warning(
                "%s=%s is ignored: the sockets are for process %s, and this one is %d. Is Pounce started by a shell or "
                "another program? Have that execute it, as `exec` does in a shell.", COUNT, count, pid, os.getpid(),
            )  # fmt: skip
        return []
    named = names.split(":")
    return [GivenSocket(fd, named[fd - FIRST] if fd - FIRST < len(named) else "") for fd in numbers_given]


def binds(config: Config, given: Sequence[GivenSocket]) -> list[Bind]:
    """Where to listen. Raises StartupError for a name that no socket has."""
    wanted = config.binds()
    if all(bind.fd is None and bind.fd_name is None for bind in wanted):
        if given and config.names_address:
            logger.warning(
                "%s has no effect: the server listens at the sockets that the service manager has given it (%s).",
                ", ".join(bind.source for bind in wanted), COUNT,
            )  # fmt: skip
        return [Bind(f"{COUNT}: {each}", fd=each.fd) for each in given] or wanted
    chosen: list[Bind] = []
    for bind in wanted:
        chosen += [bind] if bind.fd_name is None else _named(bind, given)
    used = [bind.fd for bind in chosen]
    left = [each for each in given if each.fd not in used]
    if left:
        logger.warning(
            "The service manager has given a socket that no option names, and nobody accepts from it: %s.",
            "; ".join(map(str, left)),
        )  # fmt: skip
    return chosen


def _named(bind: Bind, given: Sequence[GivenSocket]) -> list[Bind]:
    """All of this name: a socket unit may have several addresses."""
    found = [Bind(bind.source, fd=each.fd) for each in given if each.name == bind.fd_name]
    if not found:
        names = ", ".join(sorted({each.name for each in given})) or "none at all"
        raise StartupError(
            f"cannot bind ({bind.source}): the service manager has given no socket of this name; it has given {names}"
        )
    return found

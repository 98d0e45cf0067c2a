"""The server's own errors: what a person or an application is told in one line."""

import errno
import sys


class StartupError(Exception):
    """The server cannot start. The text is one line for the operator: what was wrong and what to do.

    `exit_code` is uvicorn's: 2 for a command line that asks for something impossible, 3 for everything that
    fails while starting.
    """

    exit_code = 3


class ConfigError(StartupError):
    """An option has a value that cannot be. The text names where the value came from."""

    exit_code = 2


class ClientDisconnected(OSError):
    """Raised by `send` when the client is gone (ASGI HTTP 2.4, "Disconnected Client"). An application that
    lets it pass has done nothing wrong, so it is not logged as an error."""


def exit_code(error: SystemExit) -> int:
    """The code with which the interpreter would end for `error`. A text is written to standard error, and is 1."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr, flush=True)
    return 1


def no_descriptors(error: BaseException) -> StartupError | None:
    """For an error that says that no file or socket can be opened any more: what to tell the operator."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return StartupError("Cannot start: too many open files; raise the limit (ulimit -n).")
    return None


def first_line(error: BaseException) -> str:
    """What an error says, where there is room for one line."""
    return (str(error).strip().splitlines() or ["no more is said"])[0]

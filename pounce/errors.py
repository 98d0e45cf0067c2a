"""The server's own errors, for operators and applications.

Must never import another module of the server, because every room may import this one. Owner: none.
"""

import errno
import sys


class StartupError(Exception):
    """The server cannot start. The text is one line for the operator: what is wrong, and what to do.

    `exit_code` is uvicorn's: 2 for an invalid command line, 1 for an application that fails while it is imported, 3 for
    everything else that fails during the start.
    """

    exit_code = 3


class ConfigError(StartupError):
    """An option has an invalid value. The text names the source of the value."""

    exit_code = 2


class ClientDisconnected(OSError):
    """Raised by `send` when the client has disconnected (ASGI HTTP 2.4, "Disconnected Client - send exception"). An
    application need not catch it, so it is not logged as an error."""


def exit_code(error: SystemExit) -> int:
    """The exit code of the interpreter for `error`. If it carries a text, writes that to standard error and returns
    1."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr, flush=True)
    return 1


def no_descriptors(error: BaseException) -> StartupError | None:
    """The error for the operator, if `error` means that no file or socket can be opened any more; else None."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return StartupError("Cannot start: too many open files; raise the limit (ulimit -n).")
    return None


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for a log line."""
    return (str(error).strip().splitlines() or ["no message"])[0]

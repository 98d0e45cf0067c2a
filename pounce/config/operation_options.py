"""The options of operation: health checks, the admin listener, the process.

Owner: none; see `config`.
"""

from dataclasses import dataclass

from pounce.config.kinds import ADMIN, FLAG, HEALTH_PATH, UMASK, account, text
from pounce.config.option import OPERATION, option


@dataclass(frozen=True, kw_only=True)
class OperationOptions:
    health: str | None = option(
        None,
        HEALTH_PATH,
        OPERATION,
        "Answer GET and HEAD requests for this path without the application: 200, or 503 when the server ends, from "
        "the beginning of --drain-delay on. Such requests are not logged.",
    )
    admin: str | None = option(
        None,
        ADMIN,
        OPERATION,
        "Answer /livez and /readyz at this address, HOST:PORT or unix:PATH, also while every worker is blocked. A "
        "single worker then has a thread of its own.",
    )
    admin_public: bool = option(
        False,
        FLAG,
        OPERATION,
        "Let --admin be an address that other machines can reach. Its clients are not authenticated.",
    )
    pid_file: str | None = option(
        None,
        text("FILE"),
        OPERATION,
        "Write the number of the server's process to this file when clients are let in, and remove it at the end.",
    )
    user: str | None = option(
        None,
        account("USER"),
        OPERATION,
        "Run as this user (a name or a number) from when the sockets are bound, before the application is imported. "
        "Needs root.",
    )
    group: str | None = option(None, account("GROUP"), OPERATION, "Run with this group. Default: the group of --user.")
    umask: int | None = option(
        None,
        UMASK,
        OPERATION,
        "Permissions (octal) that are withheld from files which the server and the application create, Unix sockets "
        "included.",
    )

"""The options of operation: health checks, the admin listener, the process.

Owner: none; see `config`.
"""

from dataclasses import dataclass

from pounce.config.kinds import ADMIN, FLAG, HEALTH_PATH
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
        False, FLAG, OPERATION, "Let --admin be an address that other machines can reach. It asks nobody who he is."
    )

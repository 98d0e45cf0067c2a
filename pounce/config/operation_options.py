"""The options of operation: health checks, the admin listener, the process.

Owner: none; see `config`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class OperationOptions:
    pass

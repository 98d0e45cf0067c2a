"""The options for a server behind a proxy: whom it trusts, and what it takes from them.

Owner: none; see `config`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ProxyOptions:
    pass

"""The options of the log: what is logged, and how.

Owner: none; see `config`.
"""

from dataclasses import dataclass
from typing import Any

from pounce.config.kinds import FLAG, LEVEL, LOG_CONFIG
from pounce.config.option import LOGGING, option


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    log_level: str | int | None = option(None, LEVEL, LOGGING, "Log this level and those above. Default: info.")
    log_config: Any = option(
        "default", LOG_CONFIG, LOGGING, "Configure logging from this file: .json, .yaml, .toml or .ini."
    )
    access_log: bool = option(True, FLAG, LOGGING, "Log every request.")
    use_colors: bool | None = option(None, FLAG, LOGGING, "Use colours in the log. Default: on a terminal.")

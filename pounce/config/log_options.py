"""The options of the log: what is logged, and how.

Owner: none; see `config`.
"""

import re
from dataclasses import dataclass
from typing import Any

from pounce.config.access_template import ACCESS_FORMAT
from pounce.config.kinds import FLAG, LEVEL, LOG_CONFIG, Invalid, Kind, choice
from pounce.config.option import LOGGING, option

ID_FIELD = "x-request-id"
"""The field that proxies use."""

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")


def _check_id_field(value: object) -> object:
    if value is True or value == "on":
        return ID_FIELD
    if value in (None, False, "", "off", "none"):
        return None
    if not isinstance(value, str) or not _FIELD.fullmatch(value):
        raise Invalid(
            f"not the name of a field, which has letters, digits and hyphens. To use {ID_FIELD}, let --request-id be "
            "followed by another option, or by nothing"
        )
    return value.lower()


def _parse_id_field(text: str) -> str | bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(text.lower(), text)


def _check_paths(value: object) -> object:
    paths = [value] if isinstance(value, str) else value or []
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str) for path in paths):
        raise Invalid("not a list of paths")
    for path in paths:
        if not path.startswith("/") or "*" in path[:-1] or not path.isprintable():
            raise Invalid("not a list of paths: each begins with / and may have a * at its end")
    return tuple(paths)


FIELD = Kind("FIELD", _parse_id_field, _check_id_field, bare="on")
PATHS = Kind("PATH", str, _check_paths)


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    log_level: str | int | None = option(None, LEVEL, LOGGING, "Log this level and those above. Default: info.")
    log_config: Any = option(
        "default", LOG_CONFIG, LOGGING, "Configure logging from this file: .json, .yaml, .toml or .ini."
    )
    log_format: str = option("text", choice("text", "json"), LOGGING, "How lines of the log are written.")
    access_log: bool = option(True, FLAG, LOGGING, "Log every request.")
    access_log_format: str | None = option(
        None,
        ACCESS_FORMAT,
        LOGGING,
        "How requests are logged; a template has gunicorn's atoms. Default: uvicorn, or json with --log-format json.",
    )
    access_log_exclude: tuple[str, ...] = option(
        (),
        PATHS,
        LOGGING,
        "Do not log requests for this path, or with a * at its end for those that begin with it. "
        "May be given several times.",
        multiple=True,
    )
    request_id: str | None = option(
        None,
        FIELD,
        LOGGING,
        f"Give each request an identifier: from this field ({ID_FIELD}) if a trusted proxy has set it, else a new one. "
        "It is in the response, in the scope and in the log.",
    )
    use_colors: bool | None = option(None, FLAG, LOGGING, "Use colours in the log. Default: on a terminal.")

    @property
    def access_format(self) -> str:
        """The format of the access log: one of access_template.NAMES, or a template."""
        return self.access_log_format or ("json" if self.log_format == "json" else "uvicorn")

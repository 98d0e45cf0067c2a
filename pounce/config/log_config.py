"""Applies the file or dictionary of --log-config, and translates one that was written for uvicorn.

The settings of the loggers `uvicorn`, `uvicorn.error`, `uvicorn.access` and `uvicorn.asgi` (handlers, levels, filters)
are applied to the server's loggers as well. They stay in force for uvicorn's, because applications log to those. The
formatters of uvicorn.logging are replaced by those of pounce.logging, so that uvicorn need not be installed.

Must never translate a configuration that names one of the server's loggers. Owner: the thread that starts the server,
or the main thread of a worker process.
"""

import logging.config
import os
from collections.abc import Callable
from configparser import RawConfigParser
from copy import deepcopy
from typing import Any

from pounce.errors import ConfigError

UVICORN, POUNCE = "uvicorn", "pounce"


def apply(given: Any) -> bool:
    """Configures logging. Was the configuration written for uvicorn? Raises ConfigError, and whatever the logging
    module raises for a wrong configuration."""
    if isinstance(given, str | os.PathLike):
        name = os.fspath(given)
        if name.endswith((".json", ".toml", ".yaml", ".yml")):
            with open(name, "rb") as file:
                given = _reader(name)(file)
        else:
            given = _ini(name)
    if isinstance(given, dict):
        given, translated = _translated(given)
        logging.config.dictConfig(given)
        return translated
    translated = isinstance(given, RawConfigParser) and _translate(given)
    logging.config.fileConfig(given, disable_existing_loggers=False)
    return translated


def _pounce_name(name: str) -> str | None:
    """The server's logger for one of uvicorn's; None for any other."""
    return POUNCE + name[len(UVICORN) :] if name == UVICORN or name.startswith(UVICORN + ".") else None


def _formatter(name: object) -> object:
    known = (f"{UVICORN}.logging.{kind}Formatter" for kind in ("Default", "Access", "Colourized"))
    return POUNCE + name[len(UVICORN) :] if isinstance(name, str) and name in known else name


def _translated(given: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    loggers = given.get("loggers")
    if not isinstance(loggers, dict) or any(str(name).partition(".")[0] == POUNCE for name in loggers):
        return given, False
    added = {new: deepcopy(spec) for name, spec in loggers.items() if (new := _pounce_name(str(name))) is not None}
    if not added:
        return given, False
    formatters = {
        name: {key: _formatter(value) if key in ("()", "class") else value for key, value in spec.items()}
        for name, spec in given.get("formatters", {}).items()
    }
    return {**given, "loggers": {**loggers, **added}, "formatters": formatters}, True


def _ini(name: str) -> RawConfigParser:
    parser = RawConfigParser()
    if not parser.read(name):
        raise ConfigError(f"--log-config: {name}: cannot be read")
    return parser


def _translate(parser: RawConfigParser) -> bool:
    """The same for the sections of an .ini file."""
    sections = [name for name in parser.sections() if name.startswith("logger_")]
    names = {name: parser.get(name, "qualname", fallback="") for name in sections}
    if any(name.partition(".")[0] == POUNCE for name in names.values()) or not parser.has_option("loggers", "keys"):
        return False
    translated = False
    for section, name in names.items():
        new = _pounce_name(name)
        if new is None:
            continue
        translated = True
        copy = f"{new}.of.{section.removeprefix('logger_')}"
        parser.add_section(f"logger_{copy}")
        for key, value in parser.items(section):
            parser.set(f"logger_{copy}", key, new if key == "qualname" else value)
        parser.set("loggers", "keys", f"{parser.get('loggers', 'keys')},{copy}")
    for section in parser.sections():
        if section.startswith("formatter_") and parser.has_option(section, "class"):
            parser.set(section, "class", str(_formatter(parser.get(section, "class"))))
    return translated


def _reader(name: str) -> Callable[[Any], Any]:
    if name.endswith(".json"):
        import json

        return json.load
    if name.endswith(".toml"):
        import tomllib

        return tomllib.load
    try:
        import yaml
    except ImportError:
        raise ConfigError("--log-config: YAML needs PyYAML: pip install 'pounce-asgi[yaml]'") from None
    return yaml.safe_load  # type: ignore[no-any-return]

"""The file or dictionary of --log-config, applied; one that was written for uvicorn too.

What such a configuration says of the loggers `uvicorn`, `uvicorn.error`, `uvicorn.access` and `uvicorn.asgi` is said of
ours as well: handlers, levels and filters. Of theirs it stays true, because applications log to them. The formatters of
uvicorn.logging become ours of the same name, so that uvicorn need not be installed.
"""

import logging.config
import os
from collections.abc import Callable
from configparser import RawConfigParser
from copy import deepcopy
from typing import Any

from pounce.errors import ConfigError

THEIRS, OURS = "uvicorn", "pounce"


def apply(given: Any) -> bool:
    """Configures logging. True if it was written for uvicorn. Raises what a wrong configuration raises."""
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


def _ours(name: str) -> str | None:
    """Our logger for one of theirs; None for any other."""
    return OURS + name[len(THEIRS) :] if name == THEIRS or name.startswith(THEIRS + ".") else None


def _formatter(name: object) -> object:
    known = (f"{THEIRS}.logging.{kind}Formatter" for kind in ("Default", "Access", "Colourized"))
    return OURS + name[len(THEIRS) :] if isinstance(name, str) and name in known else name


def _translated(given: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    loggers = given.get("loggers")
    if not isinstance(loggers, dict) or any(str(name).partition(".")[0] == OURS for name in loggers):
        return given, False
    theirs = {ours: deepcopy(spec) for name, spec in loggers.items() if (ours := _ours(str(name))) is not None}
    if not theirs:
        return given, False
    formatters = {
        name: {key: _formatter(value) if key in ("()", "class") else value for key, value in spec.items()}
        for name, spec in given.get("formatters", {}).items()
    }
    return {**given, "loggers": {**loggers, **theirs}, "formatters": formatters}, True


def _ini(name: str) -> RawConfigParser:
    parser = RawConfigParser()
    if not parser.read(name):
        raise ConfigError(f"--log-config: {name}: cannot be read")
    return parser


def _translate(parser: RawConfigParser) -> bool:
    """The same for the sections of an .ini file."""
    sections = [name for name in parser.sections() if name.startswith("logger_")]
    names = {name: parser.get(name, "qualname", fallback="") for name in sections}
    if any(name.partition(".")[0] == OURS for name in names.values()) or not parser.has_option("loggers", "keys"):
        return False
    translated = False
    for section, name in names.items():
        ours = _ours(name)
        if ours is None:
            continue
        translated = True
        copy = f"{ours}.of.{section.removeprefix('logger_')}"
        parser.add_section(f"logger_{copy}")
        for key, value in parser.items(section):
            parser.set(f"logger_{copy}", key, ours if key == "qualname" else value)
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

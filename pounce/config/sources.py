"""The sources of options: a file, the environment, the command line.

Later sources win: defaults < pounce.toml or [tool.pounce] in pyproject.toml < environment < command line. An invalid
value is an error that names its source. Variables that were set for another program (Kubernetes, uvicorn) are noted in
one line of the log.

Must never log: logging is not configured yet, so notes are returned. Owner: none; nothing here is kept.
"""

import contextlib
import logging
import os
import re
from collections.abc import Mapping
from typing import Any

from pounce.config.config import OPTIONS, Config, checked, parsed
from pounce.config.kinds import suggestion
from pounce.config.option import DEVELOPMENT
from pounce.errors import ConfigError

type Note = tuple[int, str]
"""A line for the log, which is not configured yet: its level and its text."""

NAMES = {flag.removeprefix("--").replace("-", "_"): name for name, spec in OPTIONS.items() for flag in spec.flags}
NAMES |= {name: name for name in (*OPTIONS, "app")}
"""The names of each option in a file or the environment: that of its field, and those of its flags."""

# Set for the set-up script and the tests, or by the server for itself.
OTHER_VARIABLES = frozenset(
    (
        "POUNCE_PYTHON", "POUNCE_CACHE", "POUNCE_NO_SKIP", "POUNCE_CPYTHON_TESTS",
        "POUNCE_PROCESSES_BECAUSE", "POUNCE_ONLY_LOAD", "POUNCE_LISTENERS", "POUNCE_READY_FD",
    )
)  # fmt: skip

_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
"""Variables that Kubernetes sets for a Service in each of a namespace's containers, after the Service's name."""


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    folder: str | os.PathLike[str],
    typed: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], list[Note]]:
    """Options from the file, the environment and the command line, checked, and notes for the log.

    `flags` are the parsed options of the command line, and `typed` the flags as they were typed. Raises ConfigError.
    """
    values: dict[str, Any] = {}
    notes: list[Note] = []
    file_name, from_file = _from_file(folder, notes)
    for key, value in from_file.items():
        name = _known(key.replace("-", "_"), f"{file_name}: {key}")
        values[name] = checked(name, value, f"{file_name}: {key}")
    if from_file:
        notes.append((logging.INFO, f"Options from {os.path.join(folder, file_name)}"))
    values |= _from_environment(environ, notes)
    for name, value in flags.items():
        source = (typed or {}).get(name) or (OPTIONS[name].flags[0] if name in OPTIONS else name)
        values[name] = checked(name, value, source)
    if not values.get("reload"):
        for name in values:
            if name in OPTIONS and OPTIONS[name].group == DEVELOPMENT and values[name]:
                notes.append((logging.WARNING, f"{OPTIONS[name].flags[0]} has no effect without --reload."))
    return values, notes


def files_read_at_start(config: Config, folder: str | os.PathLike[str]) -> list[str]:
    """The files that a running server does not read again: --env-file, --log-config, and that of the options, which may
    not be there. `folder`: the one in which it was searched."""
    files = [config.env_file, config.log_config if config.log_config != "default" else None]
    name = "pounce.toml"
    with contextlib.suppress(ConfigError):  # one that nobody has read, if the options are a program's keywords
        name = _from_file(folder, [])[0] or name
    files += [os.path.join(folder, each) for each in {"pounce.toml", name}]
    return [os.path.abspath(path) for path in files if isinstance(path, str | os.PathLike)]


def _from_file(folder: str | os.PathLike[str], notes: list[Note]) -> tuple[str, dict[str, Any]]:
    for name, tables in (("pounce.toml", ()), ("pyproject.toml", ("tool", "pounce"))):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            continue
        try:
            with open(path, encoding="utf-8") as file:
                written = file.read()
            if tables and "pounce" not in written:
                continue  # a project without options for this server
            import tomllib

            found = tomllib.loads(written)
        except (OSError, ValueError) as error:
            if tables:
                notes.append(
                    (logging.WARNING, f"{path} cannot be read ({error}), nor can [tool.pounce] in it; ignored.")
                )
                continue
            raise ConfigError(f"{path}: {error}") from None
        for table in tables:
            found = found.get(table, {})
            if not isinstance(found, dict):
                raise ConfigError(f"{path}: {table} is {found!r}, not a table")
        if found:
            return name, found
    return "", {}


def _known(name: str, source: str) -> str:
    name = "workers" if name == "threads" else name
    if name not in NAMES:
        raise ConfigError(f"{source} is not an option{suggestion(name, [*OPTIONS, 'threads', 'app'])}")
    return NAMES[name]


def _from_environment(environ: Mapping[str, str], notes: list[Note]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    of_kubernetes: list[str] = []
    of_uvicorn: list[str] = []
    for variable, value in environ.items():
        prefix, _, rest = variable.partition("_")
        if not value or prefix not in ("POUNCE", "UVICORN") or variable in OTHER_VARIABLES:
            continue  # an empty variable is an unset one
        if _KUBERNETES.search(variable) or (rest == "PORT" and value.startswith(("tcp://", "udp://", "sctp://"))):
            if prefix == "POUNCE":
                of_kubernetes.append(variable)
            continue
        if prefix == "UVICORN":
            if rest.lower() in NAMES:
                of_uvicorn.append(rest)
            continue
        try:
            name = _known(rest.lower(), variable)
        except ConfigError as error:
            notes.append((logging.WARNING, f"{error}; ignored."))
            continue
        values[name] = value if name == "app" else parsed(name, value, variable)
    if of_kubernetes:
        names = ", ".join(of_kubernetes)
        notes.append((logging.WARNING, f"Kubernetes has set {names} for a Service named pounce; ignored."))
    if of_uvicorn:
        given, meant = (", ".join(f"{prefix}_{name}" for name in of_uvicorn) for prefix in ("UVICORN", "POUNCE"))
        notes.append((logging.WARNING, f"{given} set: did you mean {meant}? Ignored."))
    return values

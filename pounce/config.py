"""The options: what they are called, what they may be, where their values come from.

One frozen `Config` for the whole server, made before anything else happens and only read afterwards. Each field
carries its own description (`Option`), from which the command line, the environment, the configuration file and
the README's table are made: an option exists in one place.

Later sources win: defaults < pounce.toml or [tool.pounce] in pyproject.toml < environment < command line.
A value that cannot be is refused with the name of the source it came from.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import MISSING, InitVar, dataclass, field, fields
from pathlib import Path
from typing import Any

from pounce.errors import ConfigError
from pounce.fields import field_problem

LOG_LEVELS = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10, "trace": 5}


class Invalid(ValueError):
    """A value that cannot be; the text completes the sentence "VALUE is ..."."""


@dataclass(frozen=True, slots=True)
class Bind:
    """One place to listen at, and the words in which the person asked for it."""

    source: str
    host: str | None = None
    port: int = 0
    path: str | None = None
    fd: int | None = None


def parse_bind(text: str) -> Bind:
    """`HOST:PORT`, `[IPv6]:PORT`, `:PORT`, `unix:PATH` or `fd://N`. Raises ValueError with what is wrong."""
    source = f"--bind {text}"
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ValueError("unix: needs a path")
        return Bind(source, path=path)
    if text.startswith("fd://"):
        if not text[5:].isdecimal():
            raise ValueError("fd:// needs a number")
        return Bind(source, fd=int(text[5:]))
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise ValueError("not HOST:PORT, [IPv6]:PORT, unix:PATH or fd://N")
    return Bind(source, host=host.removeprefix("[").removesuffix("]"), port=int(port))


@dataclass(frozen=True, slots=True)
class Kind:
    """What values an option takes."""

    metavar: str | None
    parse: Callable[[str], Any]
    """Makes a value of text; text that is none stays text, for `check` to refuse."""
    check: Callable[[Any], Any]
    """Gives the value back, perhaps in a better form; raises Invalid."""


@dataclass(frozen=True, slots=True)
class Option:
    help: str
    kind: Kind
    group: str
    flags: tuple[str, ...]
    """Its names on the command line; --the-field's-name unless others are given."""
    multiple: bool = False


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _integer(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def whole(least: int, most: int | None = None, metavar: str = "N", *, off: bool = False) -> Kind:
    """Whole numbers from `least` to `most`; None, "off" or "none" where the option can be off."""

    def check(value: object) -> object:
        if off and value in (None, "off", "none"):
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise Invalid("not a whole number" + " and not off" * off)
        if value < least or (most is not None and value > most):
            raise Invalid(f"not between {least} and {most}" if most is not None else f"less than {least}")
        return value

    return Kind(metavar + "|off" * off, _integer, check)


def seconds(*, zero: bool = False, off: bool = True) -> Kind:
    """A number of seconds, above 0 unless `zero` means something; None, "off" or "none" for no limit."""

    def check(value: object) -> object:
        if off and value in (None, "off", "none"):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise Invalid("not a number of seconds" + " and not off" * off)
        if value < 0 or (value == 0 and not zero):
            raise Invalid("less than 0" if zero else "not more than 0; off means no limit")
        return value

    return Kind("SECONDS" + "|off" * off, _number, check)


def choice(*values: str) -> Kind:
    def check(value: object) -> object:
        if value not in values:
            raise Invalid(f"not one of {', '.join(values)}{meant(str(value), values)}")
        return value

    return Kind("|".join(values), str, check)


def text(metavar: str, *, optional: bool = True) -> Kind:
    def check(value: object) -> object:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not (isinstance(value, str) or (value is None and optional)):
            raise Invalid("not text")
        return value

    return Kind(metavar, str, check)


def existing(metavar: str, *, directory: bool = False) -> Kind:
    def check(value: object) -> object:
        if isinstance(value, str | os.PathLike) and value != "":
            path = Path(value)
            if not (path.is_dir() if directory else path.is_file()):
                raise Invalid(f"not an existing {'folder' if directory else 'file'}")
            return os.fspath(value)
        return value

    return Kind(metavar, str, check)


def _truth(text: str) -> bool | str:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words.get(text.lower(), text)


def _check_truth(value: object) -> object:
    if value is not None and not isinstance(value, bool):
        raise Invalid("neither true nor false")
    return value


def _check_level(value: object) -> object:
    if isinstance(value, str):
        if value.lower() not in LOG_LEVELS:
            raise Invalid(f"not one of {', '.join(LOG_LEVELS)}{meant(value, LOG_LEVELS)}")
        return value.lower()
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Invalid("not a log level")
    return value


def _parse_workers(text: str) -> int | str:
    return text if text == "auto" else _integer(text)


def _check_workers(value: object) -> object:
    return whole(0, 1024, off=True).check(0 if value == "auto" else value)


def _check_headers(value: object) -> object:
    pairs = []
    for given in value if isinstance(value, list | tuple) else [value]:
        pair = given.partition(":")[::2] if isinstance(given, str) else given
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise Invalid("not a list of NAME:VALUE")
        name, content = pair[0].strip(), pair[1].strip()
        if field_problem(name.encode("latin-1", "replace"), content.encode("latin-1", "replace")):
            raise Invalid(f"not a field that HTTP allows: {name}: {content}")
        pairs.append((name, content))
    return tuple(pairs)


def _check_binds(value: object) -> object:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise Invalid("not a list of addresses")
    for bind in texts:
        try:
            parse_bind(str(bind))
        except ValueError as error:
            raise Invalid(str(error)) from None
    if len(set(texts)) < len(texts):
        raise Invalid("the same address twice")
    return tuple(texts)


FLAG = Kind(None, _truth, _check_truth)
WORKERS = Kind("N|auto", _parse_workers, _check_workers)
LEVEL = Kind("|".join(LOG_LEVELS), str, _check_level)
HEADERS = Kind("NAME:VALUE", str, _check_headers)
BINDS = Kind("ADDRESS", str, _check_binds)
ANYTHING = Kind("FILE", str, lambda value: value)

ADDRESSES, WORKING, APPLICATION = "where to listen", "workers and their end", "the application"
REQUESTS, RESPONSES, LOGGING, IGNORED = "limits and deadlines", "responses", "logging", "accepted for uvicorn's sake"


def option(default: Any, kind: Kind, group: str, help: str, *flags: str, multiple: bool = False) -> Any:
    return field(default=default, metadata={"option": (help, kind, group, flags, multiple)})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every option of the server. Times are seconds, sizes are bytes, None is "no limit".

    Raises ConfigError for a value that cannot be.
    """

    app: Any = field(kw_only=False)
    """An import string `module:attribute`, or the application itself."""

    host: str = option("127.0.0.1", text("HOST", optional=False), ADDRESSES, "Listen at this host name or address.")
    port: int = option(8000, whole(0, 65535, "PORT"), ADDRESSES, "Listen at this port; 0 picks a free one.")
    uds: str | None = option(None, text("PATH"), ADDRESSES, "Listen at this Unix socket instead.")
    fd: int | None = option(None, whole(0, off=True), ADDRESSES, "Listen at this inherited socket instead.")
    bind: tuple[str, ...] = option(
        (),
        BINDS,
        ADDRESSES,
        "Listen here instead: HOST:PORT, [IPv6]:PORT, unix:PATH or fd://N. May be given several times.",
        multiple=True,
    )
    backlog: int = option(2048, whole(1), ADDRESSES, "Connections that may wait to be accepted, for each socket.")

    workers: int | None = option(
        None,
        WORKERS,
        WORKING,
        "Worker threads (processes, where Python has the GIL). 0 or auto: as many as CPUs "
        "may be used. Default: $WEB_CONCURRENCY, else 1.",
        "--threads",
        "--workers",
    )
    limit_max_requests: int | None = option(
        None, whole(1, off=True), WORKING, "Requests after which a worker is replaced; the only worker ends the server."
    )
    limit_max_requests_jitter: int = option(
        0, whole(0), WORKING, "At most so many more, chosen at random for each worker."
    )
    timeout_graceful_shutdown: float | None = option(
        30.0, seconds(zero=True), WORKING, "Running requests may take so long to end when the server stops."
    )

    interface: str = option("auto", choice("auto", "asgi3", "asgi2"), APPLICATION, "What the application speaks.")
    lifespan: str = option("auto", choice("auto", "on", "off"), APPLICATION, "Send it lifespan events?")
    factory: bool = option(False, FLAG, APPLICATION, "APP is a function that makes the application.")
    app_dir: str = option(
        "", existing("FOLDER", directory=True), APPLICATION, "Look for APP here. Default: the current folder."
    )
    env_file: str | None = option(None, existing("FILE"), APPLICATION, "Set environment variables from this file.")
    root_path: str = option("", text("PATH", optional=False), APPLICATION, "The path the application is mounted at.")
    reset_contextvars: bool = option(
        False, FLAG, APPLICATION, "Run each request in an empty context, without what lifespan has set."
    )

    limit_concurrency: int | None = option(
        None, whole(1, off=True), REQUESTS, "Connections or running requests of a worker; more are answered 503."
    )
    limit_request_head: int = option(
        65536,
        whole(256),
        REQUESTS,
        "Bytes of a request's line and fields.",
        "--limit-request-head",
        "--h11-max-incomplete-event-size",
    )
    limit_request_fields: int = option(100, whole(1), REQUESTS, "Field lines of a request.")
    limit_request_target: int = option(8192, whole(16), REQUESTS, "Bytes of a request's target.")
    limit_request_body: int | None = option(None, whole(0, off=True), REQUESTS, "Bytes of a request's content.")
    timeout_keep_alive: float | None = option(5.0, seconds(zero=True), REQUESTS, "Wait so long for the next request.")
    timeout_request_head: float | None = option(10.0, seconds(), REQUESTS, "The whole head must come within this time.")
    timeout_request_body: float | None = option(
        10.0, seconds(), REQUESTS, "After this time, content must come at the least rate."
    )
    limit_request_body_rate: int = option(240, whole(0), REQUESTS, "That least rate, in bytes per second.")
    timeout_write: float | None = option(
        30.0, seconds(), REQUESTS, "A client that takes nothing for so long is cut off."
    )

    headers: tuple[tuple[str, str], ...] = option(
        (),
        HEADERS,
        RESPONSES,
        "Add this field to every response. May be given several times.",
        "--header",
        multiple=True,
    )
    server_header: bool = option(True, FLAG, RESPONSES, "Send a Server field.")
    date_header: bool = option(True, FLAG, RESPONSES, "Send a Date field.")

    log_level: str | int | None = option(None, LEVEL, LOGGING, "Log from this level up. Default: info.")
    log_config: Any = option(
        "default", ANYTHING, LOGGING, "Configure logging by this file: .json, .yaml, .toml or .ini."
    )
    access_log: bool = option(True, FLAG, LOGGING, "Log every request.")
    use_colors: bool | None = option(None, FLAG, LOGGING, "Colours in the log. Default: on a terminal.")

    loop: str = option("auto", text("NAME", optional=False), IGNORED, "There is one event loop here: the server's own.")
    http: str = option("auto", text("NAME", optional=False), IGNORED, "There is one HTTP parser here.")

    threads: InitVar[int | str | None] = None
    """Another name for `workers`."""

    def __post_init__(self, threads: int | str | None) -> None:
        if threads is not None:
            object.__setattr__(self, "workers", threads)
        if self.workers is None and os.environ.get("WEB_CONCURRENCY"):
            value = _parsed("workers", os.environ["WEB_CONCURRENCY"], "WEB_CONCURRENCY")
            object.__setattr__(self, "workers", value)
        for name, spec in OPTIONS.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, spec.kind.check(value))
            except Invalid as error:
                raise ConfigError(f"{name}={value!r} is {error}") from None

    def binds(self) -> list[Bind]:
        """Where to listen: one of the three ways to say it, in uvicorn's order of precedence."""
        if self.bind:
            return [parse_bind(text) for text in self.bind]
        if self.fd is not None:
            return [Bind(f"--fd {self.fd}", fd=self.fd)]
        if self.uds is not None:
            return [Bind(f"--uds {self.uds}", path=self.uds)]
        return [Bind(f"--host {self.host} --port {self.port}", host=self.host, port=self.port)]


def _options() -> dict[str, Option]:
    found = {}
    for f in fields(Config):
        if "option" in f.metadata:
            help, kind, group, flags, multiple = f.metadata["option"]
            found[f.name] = Option(help, kind, group, flags or ("--" + f.name.replace("_", "-"),), multiple)
    return found


OPTIONS = _options()
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Config) if f.default is not MISSING}
delattr(Config, "threads")  # the default of an argument, not an attribute

# Set for the set-up script and the tests, not for the server.
FOREIGN_VARIABLES = frozenset(("POUNCE_PYTHON", "POUNCE_CACHE"))


def meant(word: str, known: Any) -> str:
    """What to add to a refusal of `word`, when something known is like it."""
    import difflib

    found = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {found[0]}?)" if found else ""


def load(flags: Mapping[str, Any], environ: Mapping[str, str], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Options from the file, the environment and the command line, checked, and notes for the log.

    `flags` has what was given on the command line, parsed. Raises ConfigError.
    """
    values: dict[str, Any] = {}
    notes: list[str] = []
    file_name, from_file = _from_file(folder)
    for name, value in from_file.items():
        values[name] = _checked(name, value, f"{file_name}: {name}")
    values |= _from_environment(environ, notes)
    for name, value in flags.items():
        values[name] = _checked(name, value, OPTIONS[name].flags[0] if name in OPTIONS else name)
    return values, notes


def _checked(name: str, value: Any, source: str) -> Any:
    if name == "app":
        return value
    try:
        return OPTIONS[name].kind.check(value)
    except Invalid as error:
        raise ConfigError(f"{source}: {value!r} is {error}") from None


def _parsed(name: str, text: str, source: str) -> Any:
    spec = OPTIONS[name]
    return _checked(name, [*map(spec.kind.parse, text.split())] if spec.multiple else spec.kind.parse(text), source)


def _from_file(folder: Path) -> tuple[str, dict[str, Any]]:
    for name, tables in (("pounce.toml", ()), ("pyproject.toml", ("tool", "pounce"))):
        path = folder / name
        if not path.is_file():
            continue
        import tomllib

        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            if tables:
                continue  # somebody else's file: not ours to complain about
            raise ConfigError(f"{path}: {error}") from None
        for table in tables:
            found = found.get(table, {})
        if found:
            return name, {_known(key.replace("-", "_"), f"{name}: {key}"): value for key, value in found.items()}
    return "", {}


def _known(name: str, source: str) -> str:
    name = {"threads": "workers", "header": "headers"}.get(name, name)
    if name not in OPTIONS and name != "app":
        raise ConfigError(f"{source} is not an option{meant(name, [*OPTIONS, 'threads', 'app'])}")
    return name


def _from_environment(environ: Mapping[str, str], notes: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith("POUNCE_") or variable in FOREIGN_VARIABLES:
            continue
        try:
            name = _known(variable.removeprefix("POUNCE_").lower(), variable)
        except ConfigError as error:
            # No reason to stop: Kubernetes sets POUNCE_SERVICE_HOST and more where a service has that name.
            notes.append(f"{error}; ignored.")
            continue
        values[name] = text if name == "app" else _parsed(name, text, variable)
    return values

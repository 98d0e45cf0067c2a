"""Kinds of options: how a value is parsed from text, which values are valid, and the error text for an invalid one.

Must never know an option by name; those are in `config`. Owner: none; nothing here changes.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pounce.config.bind import parse_bind
from pounce.protocols.fields import field_problem
from pounce.protocols.trusted import TrustedPeers

LOG_LEVELS = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10, "trace": 5}


MAX_SECONDS = 1e9
"""More than a few times this number of seconds overflows in system calls."""
MAX_INT = 2**31 - 1
"""The largest C int."""


class Invalid(ValueError):
    """An invalid value. The text completes the sentence "VALUE is ..."."""


class NotInThisVersion(Invalid):
    """A value that uvicorn supports and this version does not. The text completes "OPTION: ...". The value is not
    shown, because it may be a password."""


class Kind(NamedTuple):
    """The values that an option takes."""

    metavar: str | None
    parse: Callable[[str], Any]
    """Makes a value of text. Text that it cannot parse is returned as it is, and `check` rejects it."""
    check: Callable[[Any], Any]
    """Returns the value, perhaps in another form. Raises Invalid."""
    split: Callable[[str], list[str]] = str.split
    """Makes the parts of a list out of text, for an option that may be given several times."""
    bare: str | None = None
    """The text that an option without a value stands for. None: it needs a value."""


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
    """A number of seconds above 0, or from 0 with `zero`; None, "off" or "none" for no limit."""

    def check(value: object) -> object:
        if off and value in (None, "off", "none"):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise Invalid("not a number of seconds" + " and not off" * off)
        if value < 0 or (value == 0 and not zero):
            raise Invalid("less than 0" if zero else "not more than 0; off means no limit")
        if value > MAX_SECONDS:
            raise Invalid("more than thirty years" + "; off means no limit" * off)
        return value

    return Kind("SECONDS" + "|off" * off, _number, check)


def choice(*values: str, unavailable: Mapping[str, str] | None = None) -> Kind:
    """One of `values`. `unavailable`: values that uvicorn supports, with the error text for each."""

    def check(value: object) -> object:
        if unavailable is not None and isinstance(value, str) and value in unavailable:
            raise NotInThisVersion(unavailable[value])
        if value not in values:
            raise Invalid(f"not one of {', '.join(values)}{suggestion(str(value), values)}")
        return value

    return Kind("|".join(values), str, check)


def text(metavar: str, *, optional: bool = True) -> Kind:
    def check(value: object) -> object:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not (isinstance(value, str) or (value is None and optional)):
            raise Invalid("not text")
        if isinstance(value, str) and "\0" in value:
            raise Invalid("not possible: there is a NUL in it")
        if isinstance(value, str) and not optional and not _in_utf8(value):  # a path may be any bytes
            raise Invalid("not text in UTF-8")
        return value

    return Kind(metavar, str, check)


def _in_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def existing(metavar: str, *, directory: bool = False) -> Kind:
    def check(value: object) -> object:
        if isinstance(value, str | os.PathLike) and value != "":
            if not (os.path.isdir(value) if directory else os.path.isfile(value)):
                raise Invalid(f"not an existing {'folder' if directory else 'file'}")
            return os.fspath(value)
        if value is not None and value != "":
            raise Invalid("not text")
        return "" if directory else None

    return Kind(metavar, str, check)


def not_available(
    what: str, harmless: Callable[[Any], bool], metavar: str | None = "VALUE", *, number: bool = False
) -> Kind:
    """An option that uvicorn has and this version has not. Accepts only values with which uvicorn does nothing
    either."""

    def check(value: object) -> object:
        if not harmless(value):
            raise NotInThisVersion(f"{what} is not in this version of pounce")
        return value

    return Kind(metavar, _truth if metavar is None else _number if number else str, check)


def is_off(value: object) -> bool:
    return not value


def ignored(_value: object) -> bool:
    """Any value does nothing as long as another option is off."""
    return True


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
            raise Invalid(f"not one of {', '.join(LOG_LEVELS)}{suggestion(value, LOG_LEVELS)}")
        return value.lower()
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Invalid("not a log level")
    return value


def _parse_workers(text: str) -> int | str:
    return text if text == "auto" else _integer(text)


def _check_workers(value: object) -> object:
    if isinstance(value, str) and value not in ("auto", "off", "none"):
        raise Invalid("not a whole number and not auto")
    return whole(0, 1024, off=True).check(0 if value == "auto" else value)


_FRAMING = ("connection", "content-length", "transfer-encoding")


def _check_headers(value: object) -> object:
    pairs = []
    if value is None:  # uvicorn's default
        return ()
    for given in value if isinstance(value, list | tuple) else [value]:
        pair = tuple(given.split(":", 1)) if isinstance(given, str) else given
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise Invalid("not a list of NAME:VALUE")
        name, content = pair[0].strip(), pair[1].strip()
        try:
            problem = field_problem(name.encode("latin-1"), content.encode("latin-1"))
        except UnicodeEncodeError:
            problem = "cannot be written in ISO-8859-1"
        if problem:
            raise Invalid(f"not a field that HTTP allows: {name}: {content}")
        if name.lower() in _FRAMING:
            raise Invalid(f"not possible: {name} says where a response ends, and is the server's own to write")
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


def _check_health_path(value: object) -> object:
    if value in (None, "off", "none"):
        return None
    if not isinstance(value, str) or not value.startswith("/"):
        raise Invalid("not a path that begins with /")
    if any(not "!" <= character <= "~" or character in "?#" for character in value):
        raise Invalid("not a path as it is in a request: without query, and other characters than ASCII as %XX")
    return value


def _check_admin(value: object) -> object:
    if value in (None, "off", "none"):
        return None
    try:
        bind = parse_bind(str(value))
    except ValueError:
        bind = None
    if bind is None or bind.fd is not None or bind.fd_name is not None:
        raise Invalid("not HOST:PORT, [IPv6]:PORT or unix:PATH")
    return value


def account(metavar: str) -> Kind:
    """A user or a group: a name, or a number. None and an empty text are the present one."""

    def check(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32 - 1:
            value = str(value)
        checked = text(metavar).check(value)
        return checked or None

    return Kind(metavar, str, check)


def _parse_umask(text: str) -> int | str:
    try:
        return int(text.removeprefix("0o"), 8)
    except ValueError:
        return text


def _check_umask(value: object) -> object:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = _parse_umask(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
        raise Invalid("not an octal number from 000 to 777")
    return value


def _check_log_config(value: object) -> object:
    if value == "default" or not isinstance(value, str | os.PathLike):
        if isinstance(value, int | float | list | tuple):
            raise Invalid("neither a file nor a dictionary")
        return value
    return existing("FILE").check(value)


def _list(value: object, what: str) -> list[str]:
    """The texts of an option that may be given several times: None, one text or path, or a list of them."""
    given: Iterable[Any] = [] if value is None else value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(part, str | os.PathLike) for part in given):
        raise Invalid(f"not a list of {what}")
    return [os.fspath(part) for part in given]


def _check_folders(value: object) -> object:
    folders = _list(value, "folders")
    for folder in folders:
        if not folder or "\0" in folder or not os.path.isdir(folder):
            raise Invalid(f"not a list of existing folders: there is no folder {folder!r}")
    return tuple(os.path.abspath(folder) for folder in folders)  # the application may change the current folder


def _check_patterns(value: object) -> object:
    patterns = _list(value, "patterns")
    if not all(pattern.strip("./") or pattern == ".*" for pattern in patterns):
        raise Invalid("not a list of patterns: one of them can match no file")
    return tuple(patterns)


def _check_trusted(value: object) -> object:
    """None, or the entries that `TrustedPeers` takes."""
    return None if value is None else _trusted(value)[0]


def _trusted(value: object) -> tuple[tuple[str, ...], TrustedPeers]:
    texts = tuple(part for text in _list(value, "addresses") for part in map(str.strip, text.split(",")) if part)
    try:
        return texts, TrustedPeers.parse(texts)
    except ValueError as error:
        raise Invalid(f"not a list of addresses and networks: {error}") from None


def _check_senders(value: object) -> object:
    """The proxies that send a header of the PROXY protocol. Unlike a field, it names only real addresses."""
    texts, trusted = _trusted(value)
    words = trusted.words
    if words:
        raise Invalid(f"not a list of addresses and networks: {words[0]!r} is a name")
    if not texts:
        raise Invalid("empty: every connection would be closed")
    return texts


def _split_folders(text: str) -> list[str]:
    """A list of folders in the environment has the separator of PATH, as uvicorn's."""
    return [part for part in text.split(os.pathsep) if part]


FLAG = Kind(None, _truth, _check_truth)
TRUTH = Kind("true|false", _truth, _check_truth)
WORKERS = Kind("N|auto", _parse_workers, _check_workers)
LEVEL = Kind("|".join(LOG_LEVELS), str, _check_level)
HEADERS = Kind("NAME:VALUE", str, _check_headers)
FOLDERS = Kind("FOLDER", str, _check_folders, _split_folders)
PATTERNS = Kind("PATTERN", str, _check_patterns)
BINDS = Kind("ADDRESS", str, _check_binds)
TRUSTED = Kind("ADDRESS,...", str, _check_trusted)
SENDERS = Kind("ADDRESS,...", str, _check_senders)
HEALTH_PATH = Kind("PATH|off", str, _check_health_path)
ADMIN = Kind("ADDRESS|off", str, _check_admin)
UMASK = Kind("OCTAL", _parse_umask, _check_umask)
LOG_CONFIG = Kind("FILE", str, _check_log_config)


def suggestion(word: str, known: Any) -> str:
    """The end of an error text about `word`, if a known word is like it."""
    import difflib

    found = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {found[0]}?)" if found else ""

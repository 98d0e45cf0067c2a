"""The format of the access log, as an operator writes it: a name, or a template with gunicorn's atoms.

    %(h)s - "%(r)s" %(s)s %({user-agent}i)s

Must never know an exchange; `observe.access_format` gives the atoms their values. Owner: none; nothing here changes.
"""

import re
from typing import NamedTuple

from pounce.config.kinds import Invalid, Kind, suggestion

NAMES = ("uvicorn", "common", "combined", "json")
ATOMS = tuple("abBDfhHlLmMpqrstTuU")
"""Those of gunicorn's that have one letter: docs/logging.md says what each is."""
GROUPS = frozenset("ioe")
"""The letters behind `%({name})`: a field of the request, a field of the response, a variable of the environment."""

_PART = re.compile(r"%(?:(?P<percent>%)|\((?P<atom>[^()]*)\)(?P<width>-?\d{0,3}(?:\.\d{1,3})?)(?P<kind>\w?))?")
_NAMED = re.compile(r"\{([^{}]+)\}(\w)")


class Template(NamedTuple):
    text: str
    """For the operator `%`, with as many places as there are atoms."""
    atoms: tuple[str, ...]
    """One letter, or `{name}` and a letter; the name of a field in lower case."""


def parse(text: str) -> Template:
    """Raises Invalid: the text completes "VALUE is ..."."""
    if not text.isprintable():
        raise Invalid("not possible: a line of the log has no control characters")
    atoms: list[str] = []

    def place(found: re.Match[str]) -> str:
        if found["percent"]:
            return "%%"
        if found["atom"] is None:
            raise Invalid("not a template: write %% for a percent sign")
        if found["kind"] != "s":
            raise Invalid(f"not a template: %({found['atom']}) is followed by s, for text")
        atoms.append(_atom(found["atom"]))
        return f"%{found['width']}s"

    return Template(_PART.sub(place, text), tuple(atoms))


def _atom(name: str) -> str:
    if name in ATOMS:
        return name
    named = _NAMED.fullmatch(name)
    if named is None or named[2] not in GROUPS:
        raise Invalid(
            f"not possible: there is no %({name})s; there are {', '.join(ATOMS)}, and "
            "{field}i of the request, {field}o of the response, {variable}e of the environment"
        )
    return name if named[2] == "e" else name[:-1].lower() + named[2]


def _check(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str):
        raise Invalid("not text")
    if value not in NAMES:
        if "%" not in value:
            raise Invalid(f"not one of {', '.join(NAMES)}, and not a template{suggestion(value, NAMES)}")
        parse(value)
    return value


ACCESS_FORMAT = Kind("|".join(NAMES) + "|TEMPLATE", str, _check)

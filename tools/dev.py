#!/usr/bin/env python3
"""Runs a command of this project in its development environment, which is made first where it is missing.

    python3 tools/dev.py pytest -q
    POUNCE_PYTHON=/usr/bin/python3.14 python3 tools/dev.py pounce examples.hello:app

One environment per kind of interpreter, below .venv/. It is made again when what pyproject.toml requires or the
interpreter has changed, or the checkout has moved. Runs on any Python >= 3.11, with nothing but its standard library.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import interpreter
from interpreter import Interpreter, fail, say

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venv"


def environment() -> Path:
    """The environment for the interpreter that `interpreter.find` gives."""
    python = interpreter.find()
    place = VENVS / python.tag
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project.pop("tool", None)  # a change of what the linters are to say is no reason to make it again
    wanted = json.dumps([str(python.path), str(place), project])
    if made_from(place) != wanted:
        with interpreter.locked(VENVS / "lock"):
            if made_from(place) != wanted:  # another `make` may have made it while this one waited
                make(python, place, wanted)
    return place


def made_from(place: Path) -> str:
    try:
        return (place / "made-from").read_text()
    except OSError:
        return ""


def make(python: Interpreter, place: Path, wanted: str) -> None:
    """Beside the old one and then put in its place, so that nobody meets half an environment."""
    say(f"making {place.relative_to(ROOT)} with {python.path}")
    uv = interpreter.uv()
    with interpreter.scratch("making", place.parent) as folder:
        fresh = folder / place.name
        if not works([uv, "venv", "--quiet", "--relocatable", "--python", python.path, fresh]):
            fail(f"uv venv failed, see above: remove {python.path} if it is broken, or set POUNCE_PYTHON")
        install(uv, fresh)
        (fresh / "made-from").write_text(wanted)
        if place.exists():
            place.rename(folder / "old")
        fresh.rename(place)


def install(uv: Path, fresh: Path) -> None:
    """The group `dev` is needed. What the other groups name is installed as far as it can be had: a package without
    a wheel for this interpreter, or out of reach, is named here, and the tests that use it are skipped."""
    pip: list[str | Path] = [uv, "pip", "install", "--python", fresh / "bin" / "python", "--group", "dev"]
    # Wheels only, but for this project: where a package has none for this interpreter, building it would need
    # more than a C compiler.
    wheels = ["--only-binary", ":all:", "--no-binary", "pounce-asgi"]
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    for apps, network in ((True, True), (True, False), (False, True), (False, False)):
        command = [*pip, *wheels, "--editable", ".", *(["--group", "apps"] if apps else [])]
        if works(command if network else [*command, "--offline"]):
            break
        say("that did not work, see above: trying with what the cache has, then with less")
    else:
        fail("uv pip failed, see above: mend the network, or name a mirror of PyPI in UV_DEFAULT_INDEX")
    if not network:
        pip.append("--offline")
    lacking = [] if apps else [name for name in groups["apps"] if not had([*pip, *wheels, name])]
    for name in groups["built"]:
        if not had([*pip, *wheels, name]):
            say(f"building {name} from source, as it has no wheel here (about a minute, once)")
            if not had([*pip, name]):
                lacking.append(name)
    if lacking:
        say(f"not to be had here: {', '.join(lacking)}; their tests are skipped (rm -r {VENVS} to try again)")


def works(command: list[str | Path]) -> bool:
    return not subprocess.run(command, cwd=ROOT).returncode


def had(command: list[str | Path]) -> bool:
    """As `works`, out of sight."""
    try:
        interpreter.output(command, cwd=ROOT, env={"UV_HTTP_RETRIES": "0"})
    except interpreter.Failed:
        return False
    return True


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments:
        fail("which command? For example: python3 tools/dev.py pytest -q")
    try:
        place = environment()
    except KeyboardInterrupt:
        fail("interrupted: nothing half made is left, the next run begins again")
    except tomllib.TOMLDecodeError as error:
        fail(f"pyproject.toml cannot be read: {error}")
    except OSError as error:
        fail(f"cannot set up: {error} (POUNCE_CACHE can put the cache elsewhere)")
    os.environ["VIRTUAL_ENV"] = str(place)
    os.environ["PATH"] = f"{place / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    # The suite starts hundreds of servers: compiling Django and its like again in each costs more than the tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    program = shutil.which(arguments[0])
    if program is None:
        fail(f"{arguments[0]}: no such command; if it belongs in {place.relative_to(ROOT)}, remove that and try again")
    os.execv(program, arguments)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Runs a command of this project in an environment of its own, which is created if it is missing.

    python3 tools/dev.py pounce examples.hello:app                                    only Pounce, in seconds
    python3 tools/dev.py pytest -q                                                    linters, test tools, frameworks
    python3 tools/dev.py --libraries python -m uvicorn main:app                       libraries of tests/apps/libraries
    POUNCE_PYTHON=/usr/bin/python3.14 python3 tools/dev.py pytest -q

There are up to three for each interpreter, below .venv/. One is created again when its requirements in pyproject.toml
or the interpreter have changed, or the checkout was moved. Runs on any Python >= 3.11 with only the standard library.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import interpreter
from interpreter import Interpreter, fail, say

ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venv"


class Kind(NamedTuple):
    """What an environment is for."""

    suffix: str
    needed: tuple[str, ...] = ()
    """Groups of pyproject.toml that must be installed."""
    wanted: tuple[str, ...] = ()
    """Groups that are installed as far as possible: tests that need a missing package are skipped."""


RUN = Kind("-run")
DEVELOP = Kind("", ("dev",), ("apps", "built"))
LIBRARIES = Kind("-libraries", (), ("libraries", "built"))


def environment(kind: Kind) -> Path:
    """The environment for the interpreter that `interpreter.find` returns. The developer's environment, if it
    exists, is also used to run the server: it has what an application may need."""
    python = interpreter.find()
    if kind is RUN and made_from(folder_of(python, DEVELOP)) == description(python, DEVELOP):
        kind = DEVELOP
    wanted = description(python, kind)
    if made_from(folder_of(python, kind)) != wanted:
        with interpreter.locked(VENVS / "lock"):
            if made_from(folder_of(python, kind)) != wanted:  # another `make` may have created it
                make(python, kind, wanted)
    return folder_of(python, kind)


def folder_of(python: Interpreter, kind: Kind) -> Path:
    return VENVS / (python.tag + kind.suffix)


def description(python: Interpreter, kind: Kind) -> str:
    """All that an environment depends on: not the settings of tools, nor the packages of other kinds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project.pop("tool", None)
    groups = project.pop("dependency-groups")
    project["groups"] = {name: groups[name] for name in (*kind.needed, *kind.wanted)}
    return json.dumps([str(python.path), str(folder_of(python, kind)), project])


def made_from(folder: Path) -> str:
    try:
        return (folder / "made-from").read_text()
    except OSError:
        return ""


def make(python: Interpreter, kind: Kind, wanted: str) -> None:
    """Creates the environment beside the old one and then replaces that: an incomplete one is never in place."""
    there = folder_of(python, kind)
    say(f"making {there.relative_to(ROOT)} with {python.path}")
    uv = interpreter.uv()
    with interpreter.scratch("making", there.parent) as folder:
        fresh = folder / there.name
        if not works([uv, "venv", "--quiet", "--relocatable", "--python", python.path, fresh]):
            fail(f"uv venv failed, see above: remove {python.path} if it is broken, or set POUNCE_PYTHON")
        install(uv, fresh, kind)
        (fresh / "made-from").write_text(wanted)
        if there.exists():
            there.rename(folder / "old")
        fresh.rename(there)


def install(uv: Path, fresh: Path, kind: Kind) -> None:
    """Installs what is needed, or ends the command. Of what is wanted, a package that has no wheel for this interpreter
    or cannot be downloaded is named, and the tests that use it are skipped."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    names = [name for group in kind.wanted if group != "built" for name in groups[group]]
    pip: list[str | Path] = [uv, "pip", "install", "--python", fresh / "bin" / "python"]
    # Only wheels, except for this project: building a package that has none may need more than a C compiler.
    wheels = ["--only-binary", ":all:", "--no-binary", project["project"]["name"]]
    required = ["--editable", ".", *(word for group in kind.needed for word in ("--group", group))]
    for everything, network in ((True, True), (True, False), (False, True), (False, False)):
        command = [*pip, *wheels, *required, *(names if everything else [])]
        if works(command if network else [*command, "--offline"]):
            break
        say("that failed, see above: trying with the cache alone, then with fewer packages")
    else:
        fail("uv pip failed, see above: repair the network, or name a mirror of PyPI in UV_DEFAULT_INDEX")
    if not network:
        pip.append("--offline")
    lacking = []
    if not everything:
        # Together if possible: one by one, a package may replace a dependency of an earlier one.
        lacking = [name for name in names if not works_silently([*pip, *wheels, "--dry-run", name])]
        rest = [name for name in names if name not in lacking]
        if not works_silently([*pip, *wheels, *rest]):
            lacking += [name for name in rest if not works_silently([*pip, *wheels, name])]
    for name in groups["built"] if "built" in kind.wanted else ():
        if not works_silently([*pip, *wheels, name]):
            say(f"building {name} from source, as it has no wheel here (about a minute, once)")
            if not works_silently([*pip, name]):
                lacking.append(name)
    if lacking:
        say(f"cannot be installed here: {', '.join(lacking)}; their tests are skipped (rm -r {VENVS} to try again)")


def works(command: list[str | Path]) -> bool:
    return not subprocess.run(command, cwd=ROOT).returncode


def works_silently(command: list[str | Path]) -> bool:
    """As `works`, without its output."""
    try:
        interpreter.output(command, cwd=ROOT, env={"UV_HTTP_RETRIES": "0"})
    except interpreter.Failed:
        return False
    return True


def main() -> None:
    arguments = sys.argv[1:]
    if not arguments:
        fail("which command? For example: python3 tools/dev.py pytest -q")
    kind = RUN if arguments[0] == "pounce" else DEVELOP
    if arguments[0] == "--libraries":
        kind, arguments = LIBRARIES, arguments[1:] or ["python"]
    try:
        made = environment(kind)
    except KeyboardInterrupt:
        fail("interrupted: nothing incomplete is left, the next run starts again")
    except tomllib.TOMLDecodeError as error:
        fail(f"pyproject.toml cannot be read: {error}")
    except OSError as error:
        fail(f"cannot set up: {error} (POUNCE_CACHE can put the cache elsewhere)")
    os.environ["VIRTUAL_ENV"] = str(made)
    os.environ["PATH"] = f"{made / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    # The suite starts hundreds of servers: compiling Django in each of them would take longer than the tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    program = shutil.which(arguments[0])
    if program is None:
        fail(f"{arguments[0]}: no such command; if it belongs in {made.relative_to(ROOT)}, remove that and try again")
    os.execv(program, arguments)


if __name__ == "__main__":
    main()
